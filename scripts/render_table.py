"""Write the table of a study: python scripts/render_table.py --study batch-size --results results --out table.tsv"""

from pathlib import Path

from seedbed.cli import parser, reporting, spec_of


def main() -> None:
    arguments = parser(__doc__, "study")
    arguments.add_argument("--results", type=Path, required=True, help="directory with runs/ and evaluations/")
    arguments.add_argument("--out", type=Path, required=True, help="the .tsv to write; a .json is written beside it")
    args = arguments.parse_args()
    with reporting(args.log):
        import pandas as pd

        from seedbed.files import write_text
        from seedbed.records import write_record
        from seedbed.report.results import StudyResults
        from seedbed.report.table import Table, study_rows

        study = StudyResults(spec_of(args, "study"), args.results)
        rows = study_rows(study)
        write_text(args.out, pd.DataFrame(rows).to_csv(sep="\t", index=False))
        write_record(args.out.with_suffix(".json"), Table, {"study": study.spec["name"], "rows": rows})


if __name__ == "__main__":
    main()
