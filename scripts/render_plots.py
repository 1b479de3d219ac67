"""Draw the plots of a study as SVG: python scripts/render_plots.py --study batch-size --results results --out plots"""

from pathlib import Path

from seedbed.cli import parser, reporting, spec_of


def main() -> None:
    arguments = parser(__doc__, "study")
    arguments.add_argument("--results", type=Path, required=True, help="directory with runs/ and evaluations/")
    arguments.add_argument("--out", type=Path, required=True, help="directory to write")
    args = arguments.parse_args()
    with reporting(args.log):
        from seedbed.report.draw import write_plots
        from seedbed.report.results import StudyResults

        write_plots(StudyResults(spec_of(args, "study"), args.results), args.out)


if __name__ == "__main__":
    main()
