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
        from seedbed.report.milestones import milestones_page
        from seedbed.report.table import read_rows

        specs = read_spec(args.specs, list) if args.specs else study_specs(Plan(load(args.config)))
        write_text(args.out, milestones_page([(spec, read_rows(args.results, spec["name"])) for spec in specs]))


if __name__ == "__main__":
    main()
