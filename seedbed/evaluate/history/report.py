"""What a report shows of what history is worth."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from seedbed.evaluate.history.result import Result
from seedbed.report.axes import INK, band, colours, doubling_axis, legend_below
from seedbed.report.contract import Plot, Report
from seedbed.report.results import StudyResults


def columns(result: Result) -> dict:
    gain = result["overall"]["gain"]
    return {"gain": gain["loss"], "low": gain["interval"][0], "high": gain["interval"][1]}


def figure_of(study: StudyResults, plot: dict) -> Figure:
    """Loss by position with and without the text before, and what that is worth in accuracy."""
    found = study.measured(plot["evaluation"])
    figure, (losses, gains) = plt.subplots(1, 2, figsize=(7, 4), layout="constrained")
    for subject, result in found.items():
        bins, colour = result["positions"], colours(study)[subject]
        x = [(one["from"] + one["to"] + 1) / 2 for one in bins]  # positions counted from 1
        losses.plot(x, [one["with"]["loss"] for one in bins], "-", color=colour, label=study.labels[subject])
        losses.plot(x, [one["without"]["loss"] for one in bins], "--", color=colour, linewidth=1)
        saved = [one["gain"] for one in bins]
        values = [{"mean": gain["accuracy"], "interval": gain["accuracy_interval"]} for gain in saved]
        band(gains, x, values, colour, study.labels[subject])
    losses.plot([], [], "-", color=INK, label="after its history")
    losses.plot([], [], "--", color=INK, linewidth=1, label="without")
    gains.axhline(0, color=INK, linewidth=0.6)
    for axes in (losses, gains):
        doubling_axis(axes)
        axes.set_xlabel("position in the piece (tokens)")
    losses.set_ylabel("loss (nats per token)")
    gains.set_ylabel("gain in accuracy")
    gains.yaxis.set_major_formatter(PercentFormatter(1.0))
    legend_below(figure, losses)
    return figure


CAPTION = (
    "Loss by position in a piece of text, after the tokens before it and without, and the gain in accuracy with its "
    "95% interval."
)
REPORT = Report(columns, plots={"history": Plot(figure_of, CAPTION)})
