"""What a report shows of the accuracy on a task."""

from math import ceil
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from seedbed.evaluate.task_accuracy.result import Range, Result, Right
from seedbed.report.axes import INK, accuracy_axis, band, colours, first_of, legend_below
from seedbed.report.contract import Plot, Report
from seedbed.report.results import StudyResults

ACROSS = 4  # panels side by side
WIDTHS = {1: 4.6, 2: 3.4}  # inches of a panel, where there are so few of them
WRITTEN = 60  # cells of a panel with numbers in them
TICKS = 8
MARKERS = "os^Dvx"


def columns(result: Result) -> dict:
    found = {}
    for one in result["claim"]:
        for name, part in (("accuracy", one["token"]), ("exact", one["exact"])):
            low, high = part["interval"]
            values = {name: part["mean"], f"{name}_low": low, f"{name}_high": high}
            found |= {f"{key}.{one['length']}": value for key, value in values.items()}
    reached, times = result["training"]["reached"], result["times"]
    return found | {
        "reached_seconds": reached and reached["seconds"],
        "data_share": times and times["data"]["share"],
    }


# --- latents and steps -----------------------------------------------------------------------------------------------


def grid_figure(study: StudyResults, plot: dict) -> Figure:
    """Token accuracy at the run's length by latents (rows) and steps (columns); a panel for each run."""
    found = study.measured(plot["evaluation"])
    across = min(ACROSS, len(found))
    down, width = ceil(len(found) / across), WIDTHS.get(across, 2.3)
    size = 1.2 + width * across, 0.8 + 1.9 * down
    figure, panels = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained")
    for number, (axes, (subject, result)) in enumerate(zip(panels.flat, found.items(), strict=False)):
        image = draw_grid(axes, result, width)
        image.set_gid(f"grid{number}")  # else it is by the contents, which panels may share
        axes.set_title(fill(study.labels[subject], int(14 * width)), fontsize=9)
    for axes in panels.flat[len(found) :]:
        axes.set_visible(False)
    figure.supxlabel("steps", fontsize=10)
    figure.supylabel("latents", fontsize=10)
    bar = figure.colorbar(image, ax=panels, format=PercentFormatter(1.0), fraction=0.03, pad=0.01, aspect=14 * down)
    bar.set_label("token accuracy")
    return figure


def draw_grid(axes: plt.Axes, result: Result, width: float) -> AxesImage:
    """A cell for each setting at the length that is nearest to the run's, in a panel of that many inches."""
    length = min((one["length"] for one in result["settings"]), key=lambda length: abs(length - result["length"]))
    cells = [one for one in result["settings"] if one["length"] == length]
    latents, steps = ([*dict.fromkeys(one[key] for one in cells)] for key in ("n_latent", "n_step"))
    values = np.array([one["token"]["mean"] for one in cells]).reshape(len(latents), len(steps))
    image = axes.imshow(values, "viridis", vmin=0, vmax=1, aspect="auto", origin="lower", interpolation="none")
    axes.grid(False)
    named_ticks(axes.xaxis, steps)
    named_ticks(axes.yaxis, ["per\nposition" if count is None else count for count in latents])
    if len(cells) <= WRITTEN:
        write_values(axes, image, values, min(8, 20 * width / len(steps)))
    frame(axes, np.array([one["trained"] for one in cells]).reshape(values.shape))
    return image


def named_ticks(axis: plt.matplotlib.axis.Axis, names: list) -> None:
    """Names of cells, as many as have room."""
    shown = range(0, len(names), ceil(len(names) / TICKS))
    axis.set_ticks(shown, [names[place] for place in shown], fontsize=8)


def write_values(axes: plt.Axes, image: AxesImage, values: np.ndarray, size: float) -> None:
    """Percentages in the cells, black or white by how light these are, whatever page is around them."""
    for (row, column), value in np.ndenumerate(values):
        red, green, blue, _ = image.to_rgba(value)
        ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
        axes.text(column, row, f"{100 * value:.0f}", color=ink, fontsize=size, ha="center", va="center")


def frame(axes: plt.Axes, inside: np.ndarray) -> None:
    """Two lines, white and black, round the cells that were trained: one of them is seen on any colour and page."""
    if not inside.any():
        return
    (rows, places) = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    corner, size = (places[0] - 0.5, rows[0] - 0.5), (places[-1] - places[0] + 1, rows[-1] - rows[0] + 1)
    for colour, width in (("white", 3.5), ("black", 1.5)):
        axes.add_patch(
            plt.Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=width, clip_on=False, zorder=3)
        )


# --- length and steps ------------------------------------------------------------------------------------------------


def length_figure(study: StudyResults, plot: dict) -> Figure:
    """Exact match (line, 95% band) and token accuracy (dashed) by length, at the setting of the claims."""
    found = study.measured(plot["evaluation"])
    curves = {subject: result["claim"] for subject, result in found.items()}
    return curves_figure(study, curves, "length", [result["trained"]["length"] for result in found.values()])


def steps_figure(study: StudyResults, plot: dict) -> Figure:
    """The same by the step that answers, at the run's length, for runs whose steps all can."""
    found = {subject: one for subject, one in study.measured(plot["evaluation"]).items() if one["by_iteration"]}
    curves = {subject: result["by_iteration"] for subject, result in found.items()}
    return curves_figure(study, curves, "n_step", [result["trained"]["n_step"] for result in found.values()])


def curves_figure(study: StudyResults, curves: dict[str, list[Right]], key: str, trained: list[Range]) -> Figure:
    """Curves of runs by a key; the ranges that were trained are shaded, more where more runs have them."""
    figure, axes = plt.subplots(layout="constrained")
    for subject, points in curves.items():
        draw_curve(axes, study, subject, [point[key] for point in points], points)
    for number, (first, last) in enumerate(sorted({(one["first"], one["last"]) for one in trained})):
        label = "trained" if number == 0 else None
        axes.axvspan(first - 0.5, last + 0.5, color=INK, alpha=0.08, linewidth=0, zorder=0, label=label)
    axes.plot([], [], "-", color=INK, label="exact match")
    axes.plot([], [], "--", color=INK, linewidth=1, label="token accuracy")
    axes.set_xlabel({"length": "length", "n_step": "step that answers"}[key])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    accuracy_axis({"": axes}, "accuracy")
    legend(figure, axes)
    return figure


def draw_curve(axes: plt.Axes, study: StudyResults, subject: str, x: list[int], points: list[Right]) -> None:
    band(axes, x, [point["exact"] for point in points], colours(study)[subject], study.labels[subject])
    axes.lines[-1].set(marker=marker(study, subject), markersize=4)
    axes.plot(x, [point["token"]["mean"] for point in points], "--", color=colours(study)[subject], linewidth=1)


def legend(figure: Figure, axes: plt.Axes) -> None:
    """Below the panels, in as many columns as its labels allow; the figure is as much higher as it needs."""
    labels = axes.get_legend_handles_labels()[1]
    across = max(1, min(3, 115 // (7 + max(map(len, labels)))))
    figure.set_size_inches(7, 3.5 + 0.17 * ceil(len(labels) / across))
    legend_below(figure, axes, across)


def marker(study: StudyResults, subject: str) -> str:
    """The runs of a colour differ by it."""
    shared = [other for other, colour in colours(study).items() if colour == colours(study)[subject]]
    return MARKERS[shared.index(subject) % len(MARKERS)]


# --- training --------------------------------------------------------------------------------------------------------


def training_figure(study: StudyResults, plot: dict) -> Figure:
    """Token accuracy in validation while training, by seconds and by samples."""
    reach = first_of(study.measured(plot["evaluation"]))["training"]["reach"]
    figure, row = plt.subplots(1, 2, sharey=True, layout="constrained")
    for axes, key in zip(row, ("seconds", "samples"), strict=True):
        for run in study.runs:
            lines = [line for line in study.metrics(run) if "valid_accuracy" in line]
            style = {"color": colours(study)[run], "marker": marker(study, run), "markersize": 3, "linewidth": 1.2}
            x = [line[key] for line in lines]
            axes.plot(x, [line["valid_accuracy"] for line in lines], label=study.labels[run], **style)
        axes.axhline(reach, color=INK, linestyle=":", linewidth=1, label=f"{100 * reach:g}%")
        axes.set_xlabel({"seconds": "training time", "samples": "training samples"}[key])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(EngFormatter(unit="s" if key == "seconds" else "", sep="\u2009"))
    accuracy_axis({"": row[0]}, "token accuracy in validation")
    legend(figure, row[0])
    return figure


REPORT = Report(
    columns,
    plots={
        "task-grid": Plot(
            grid_figure,
            "Token accuracy in percent at the run's length by number of latents and steps; what lies in the frame is "
            "within what was trained.",
        ),
        "task-length": Plot(
            length_figure,
            "Exact match with its 95% interval, and token accuracy (dashed), by length at the setting that the "
            "configuration fixes; the lengths that were trained are shaded.",
        ),
        "task-steps": Plot(
            steps_figure,
            "Exact match with its 95% interval, and token accuracy (dashed), of the answer at each step at the run's "
            "length; the numbers of steps that were trained are shaded.",
        ),
        "task-training": Plot(training_figure, "Token accuracy in validation by training time and samples."),
    },
)
