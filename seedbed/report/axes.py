"""What the plots of several kinds of evaluation are drawn with: ink, colours, bands, marks, axes."""

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt
from matplotlib.ticker import PercentFormatter

from seedbed.report.results import StudyResults

INK = "#010203"  # stands for currentColor until the SVG is written
COLOURS = [
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
]  # Okabe and Ito: safe for colour-blind eyes


def colours(study: StudyResults) -> dict[str, str]:
    """A colour for each run and model; runs that differ in their seed alone share one."""
    kinds = list(dict.fromkeys(study.kinds.values()))
    return {subject: COLOURS[kinds.index(kind) % len(COLOURS)] for subject, kind in study.kinds.items()}


def mark(panels: dict[str, plt.Axes], places: set[float], style: object, label: str) -> None:
    """Vertical lines in every panel, with one entry in the legend if there is one."""
    for axes in panels.values():
        for number, place in enumerate(sorted(places)):
            axes.axvline(place, color=INK, linestyle=style, linewidth=1, label=label if number == 0 else None)


def accuracy_axis(panels: dict[str, plt.Axes], label: str, limits: tuple = (-0.02, 1.02)) -> None:
    """Percent from 0 to 100, on the first of panels that share the axis."""
    first = next(iter(panels.values()))
    first.set_ylabel(label)
    first.set_ylim(*limits)
    first.yaxis.set_major_formatter(PercentFormatter(1.0))


def doubling_axis(axes: plt.Axes) -> None:
    """Lengths in powers of two."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")


def band(axes: plt.Axes, x: list[float], values: list[dict], colour: str, label: str) -> None:
    """Means as a line with their 95% intervals as a band."""
    low, high = zip(*(value["interval"] for value in values), strict=True)
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(x, [value["mean"] for value in values], "-", color=colour, label=label)


def legend_below(figure: plt.Figure, axes: plt.Axes, columns: int = 3) -> None:
    """The legend of one of the panels, below all of them."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=columns, fontsize=8)


def first_of(found: dict[str, dict]) -> dict:
    return next(iter(found.values()))
