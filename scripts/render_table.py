"""Write the table of a study: python scripts/render_table.py --study batch-size --results results --out table.tsv"""

from pathlib import Path

from seedbed.cli import parser, reporting, spec_of


def main() -> None:
    arguments = parser(__doc__, "study")
    arguments.add_argument("--results", type=Path, required=True, help="directory with runs/ and evaluations/")
    arguments.add_argument("--out", type=Path, required=True, help="the .tsv to write")
    args = arguments.parse_args()
    with reporting(args.log):
        from seedbed.files import write_text
        from seedbed.report.results import StudyResults
        from seedbed.report.table import study_table

        study = StudyResults(spec_of(args, "study"), args.results)
        write_text(args.out, study_table(study).to_csv(sep="\t", index=False))


if __name__ == "__main__":
    main()
