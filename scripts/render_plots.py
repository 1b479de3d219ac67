"""Draw the plots of a study as SVG: python scripts/render_plots.py --study batch-size --results results --out plots"""

from pathlib import Path

from seedbed.cli import parser, reporting, spec_of


def main() -> None:
    arguments = parser(__doc__, "study")
    arguments.add_argument("--results", type=Path, required=True, help="directory with runs/ and evaluations/")
    arguments.add_argument("--out", type=Path, required=True, help="directory to write")
    args = arguments.parse_args()
    with reporting(args.log):
        from seedbed.files import replacing
        from seedbed.report.draw import draw, plot_name, write_svg
        from seedbed.report.results import StudyResults

        study = StudyResults(spec_of(args, "study"), args.results)
        with replacing(args.out) as folder:
            folder.mkdir()
            for plot in study.spec["plots"]:
                write_svg(draw(study, plot), folder / f"{plot_name(plot)}.svg")


if __name__ == "__main__":
    main()
