"""Write the report of a study: python scripts/render_study.py --study batch-size --results .. --plots .. --out .."""

from pathlib import Path

from seedbed.cli import parser, reporting, spec_of


def main() -> None:
    arguments = parser(__doc__, "study")
    arguments.add_argument("--results", type=Path, required=True, help="directory with runs/ and evaluations/")
    arguments.add_argument("--plots", type=Path, required=True, help="directory that render_plots.py made")
    arguments.add_argument("--out", type=Path, required=True, help="the .html to write")
    args = arguments.parse_args()
    with reporting(args.log):
        from seedbed.files import write_text
        from seedbed.report.results import StudyResults
        from seedbed.report.study import study_page

        write_text(args.out, study_page(StudyResults(spec_of(args, "study"), args.results), args.plots))


if __name__ == "__main__":
    main()
