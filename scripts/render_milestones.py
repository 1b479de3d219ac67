"""Write the index of all studies: python scripts/render_milestones.py --results results --out .."""

from pathlib import Path

from seedbed.cli import parser, read_spec, reporting


def main() -> None:
    arguments = parser(__doc__)
    help = "a file with the studies as a JSON list, in place of a configuration file"
    arguments.add_argument("--specs", type=Path, metavar="FILE", help=help)
    arguments.add_argument("--config", type=Path, default=Path("config.yaml"), help="configuration file with studies")
    arguments.add_argument("--results", type=Path, required=True, help="directory with studies/<study>/table.json")
    arguments.add_argument("--out", type=Path, required=True, help="the .html to write")
    args = arguments.parse_args()
    with reporting(args.log):
        from seedbed.config.load import load
        from seedbed.files import write_text
        from seedbed.plan import Plan
        from seedbed.plan.specs import study_specs
        from seedbed.records import read_record
        from seedbed.report.milestones import milestones_page
        from seedbed.report.table import Table

        specs = read_spec(args.specs, list) if args.specs else study_specs(Plan(load(args.config)))
        paths = [args.results / "studies" / spec["name"] / "table.json" for spec in specs]
        tables = [read_record(path, Table)["rows"] for path in paths]
        write_text(args.out, milestones_page(list(zip(specs, tables, strict=True))))


if __name__ == "__main__":
    main()
