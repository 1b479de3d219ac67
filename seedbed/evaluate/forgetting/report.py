"""What a report shows of forgetting curves."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from seedbed.evaluate.forgetting.result import Point, Result
from seedbed.report.axes import INK, accuracy_axis, band, colours, doubling_axis, first_of, legend_below, mark
from seedbed.report.contract import Plot, Report
from seedbed.report.results import StudyResults

TEXTS = {"order": "meaningful text", "random": "random tokens"}


def columns(result: Result) -> dict:
    return {f"{text}.{zone}": end for text, curve in result["curves"].items() for zone, end in curve["zones"].items()}


def forgetting_figure(study: StudyResults, plot: dict) -> Figure:
    """Copy accuracy (line, 95% band) and LM accuracy (dashed) by length; a panel for each kind of text."""
    found = study.measured(plot["evaluation"])
    figure, panels = text_panels(found)
    for text, axes in panels.items():
        for subject, points in measured_points(found, text).items():
            draw_curve(axes, points, colours(study)[subject], study.labels[subject])
        axes.set_xlabel("length copied (tokens)" if first_of(found)["task"] == "copy" else "length reversed (tokens)")
    reaches = [result["reach"] for result in found.values()]
    # The prompt holds a piece twice: beyond half the training length the model has seen no input so long.
    mark(panels, {reach["trained_length"] / 2 for reach in reaches}, ":", "half the training length")
    mark(panels, {reach["trained_length"] for reach in reaches}, "-.", "training length")
    mark(panels, {reach["window"] for reach in reaches if reach["theoretical"]}, (0, (5, 3)), "work + cache")
    axes.plot([], [], "-", color=INK, label="copied" if first_of(found)["task"] == "copy" else "reversed")
    axes.plot([], [], "--", color=INK, linewidth=1, label="without memory (LM)")
    accuracy_axis(panels, "accuracy")
    legend_below(figure, axes)
    return figure


def receptive_field_figure(study: StudyResults, plot: dict) -> Figure:
    """Copy minus LM accuracy (line, 95% band) by the distance in tokens to what is copied."""
    found = study.measured(plot["evaluation"])
    figure, panels = text_panels(found)
    for text, axes in panels.items():
        for subject, points in measured_points(found, text).items():
            x, colour = [point["distance"] for point in points], colours(study)[subject]
            band(axes, x, [point["gain"] for point in points], colour, study.labels[subject])
        axes.axhline(0, color=INK, linewidth=0.6)
        axes.set_xlabel("distance (tokens)")
    reaches = [result["reach"] for result in found.values()]
    mark(panels, {reach["window"] for reach in reaches}, ":", "work + cache, or training length")
    mark(panels, {reach["theoretical"] for reach in reaches if reach["theoretical"]}, "-.", "layers x work")
    accuracy_axis(panels, "copy - LM accuracy", limits=(None, None))
    legend_below(figure, axes)
    return figure


def text_panels(found: dict[str, Result]) -> tuple[Figure, dict[str, plt.Axes]]:
    """A panel for each kind of text, with lengths in powers of two."""
    texts = list(first_of(found)["curves"])
    figure, panels = plt.subplots(1, len(texts), figsize=(7, 4), sharey=True, squeeze=False, layout="constrained")
    for axes, text in zip(panels[0], texts, strict=True):
        doubling_axis(axes)
        axes.set_title(TEXTS[text], fontsize=10)
    return figure, dict(zip(texts, panels[0], strict=True))


def measured_points(found: dict[str, Result], text: str) -> dict[str, list[Point]]:
    curves = {subject: result["curves"][text]["points"] for subject, result in found.items()}
    measured = {subject: [point for point in points if point["measurable"]] for subject, points in curves.items()}
    return {subject: points for subject, points in measured.items() if points}


def draw_curve(axes: plt.Axes, points: list[Point], colour: str, label: str) -> None:
    lengths = [point["length"] for point in points]
    band(axes, lengths, [point["copy"] for point in points], colour, label)
    axes.plot(lengths, [point["lm"]["mean"] for point in points], "--", color=colour, linewidth=1)


REPORT = Report(
    columns,
    plots={
        "forgetting": Plot(
            forgetting_figure,
            "Forgetting curve: how much of a piece comes back right by its length, on meaningful and on random tokens; "
            "bands are 95% intervals of the mean.",
        ),
        "receptive-field": Plot(
            receptive_field_figure,
            "What having read the piece is worth by the distance to it; bands are 95% intervals. Where they fall to 0, "
            "the effective receptive field ends.",
        ),
    },
    names={"texts": {"order": "meaningful", "random": "random"}},
)
