"""Plots of a study as SVG that follows the page around it.

Text stays text, so that the reader's own fonts show Chinese; ink is `currentColor` and the background transparent, so
that one file serves light and dark pages.
"""

import io
import re
import warnings
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("svg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

from seedbed.files import write_text
from seedbed.report.gather import Gathered

INK = "#010203"  # stands for currentColor until the SVG is written
COLOURS = [
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
]  # Okabe and Ito: safe for colour-blind eyes
AXES = {"tokens": "training tokens", "steps": "steps", "seconds": "training time"}

STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "seedbed",
    "font.size": 10,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.2,
    **{
        key: INK
        for key in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
    },
}


def draw(study: Gathered, plot: dict) -> Figure:
    """The figure of one entry of `plots`."""
    drawers = {"loss": loss_figure, "forgetting": forgetting_figure, "cmmlu": cmmlu_figure}
    with plt.rc_context(STYLE):
        return drawers[plot["kind"]](study, plot)


def colours(study: Gathered) -> dict[str, str]:
    return {run: COLOURS[number % len(COLOURS)] for number, run in enumerate(study.runs)}


def loss_figure(study: Gathered, plot: dict) -> Figure:
    """Training loss (line) and validation loss (dots) against tokens, steps or seconds."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    key = {"steps": "step"}.get(plot["x"], plot["x"])
    for run, colour in colours(study).items():
        lines = study.metrics(run)
        x, loss = np.array([line[key] for line in lines]), smoothed([line["loss"] for line in lines], plot["smooth"])
        axes.plot(x, loss, color=colour, linewidth=1.2, label=study.labels[run])
        valid = [line for line in lines if "valid_loss" in line]
        axes.plot(
            [line[key] for line in valid], [line["valid_loss"] for line in valid], "o", color=colour, markersize=4
        )
    axes.plot([], [], "-", color=INK, linewidth=1.2, label="training")
    axes.plot([], [], "o", color=INK, markersize=4, label="validation")
    axes.set_xlabel(AXES[plot["x"]])
    axes.set_ylabel("loss (nats per token)")
    axes.xaxis.set_major_formatter(EngFormatter(unit="s" if plot["x"] == "seconds" else "", sep="\u2009"))
    if plot["log"]:
        axes.set_xscale("log")
    axes.legend()
    return figure


def smoothed(values: list[float], window: int) -> np.ndarray:
    """Running mean of the last `window` values."""
    sums = np.cumsum(np.insert(np.asarray(values), 0, 0.0))
    stop = np.arange(1, len(values) + 1)
    start = np.maximum(0, stop - window)
    return (sums[stop] - sums[start]) / (stop - start)


def forgetting_figure(study: Gathered, plot: dict) -> Figure:
    """Copy accuracy (line, 95% band) and LM accuracy (dashed) by length; a panel for each kind of text."""
    found = {run: study.evaluation(run, plot["evaluation"]) for run in study.runs}
    texts = list(next(iter(found.values()))["curves"])
    figure, panels = plt.subplots(1, len(texts), figsize=(7, 3.6), sharey=True, squeeze=False, layout="constrained")
    for axes, text in zip(panels[0], texts, strict=True):
        for run, colour in colours(study).items():
            points = [point for point in found[run]["curves"][text]["points"] if point["measurable"]]
            draw_curve(axes, points, colour, study.labels[run])
        for length in sorted({result["trained_length"] for result in found.values()}):
            # The prompt holds a piece twice: beyond half the window the first copy is out of it.
            axes.axvline(length / 2, color=INK, linestyle=":", linewidth=1)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_title({"order": "meaningful text", "random": "random tokens"}[text], fontsize=10)
        axes.set_xlabel("length copied (tokens)")
    panels[0][0].set_ylabel("accuracy")
    panels[0][0].set_ylim(-0.02, 1.02)
    panels[0][0].yaxis.set_major_formatter(PercentFormatter(1.0))
    legend = panels[0][-1]
    legend.plot([], [], "-", color=INK, label="copy")
    legend.plot([], [], "--", color=INK, label="without memory (LM)")
    legend.plot([], [], ":", color=INK, label="half the training window")
    legend.legend(fontsize=8)
    return figure


def draw_curve(axes: plt.Axes, points: list[dict], colour: str, label: str) -> None:
    if not points:
        return
    lengths = [point["length"] for point in points]
    low, high = zip(*(point["copy"]["interval"] for point in points), strict=True)
    axes.fill_between(lengths, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(lengths, [point["copy"]["mean"] for point in points], "-", color=colour, label=label)
    axes.plot(lengths, [point["lm"]["mean"] for point in points], "--", color=colour, linewidth=1)


def cmmlu_figure(study: Gathered, plot: dict) -> Figure:
    """Accuracy with its 95% interval for each run and number of shots, against chance."""
    found = {run: study.evaluation(run, plot["evaluation"]) for run in study.runs}
    first = next(iter(found.values()))
    shots = list(first["shots"])
    figure, axes = plt.subplots(figsize=(7, 0.8 + 0.34 * len(found) * len(shots)), layout="constrained")
    names = []
    for run, result in found.items():
        for setting in shots:
            scores, y = result["shots"][setting], len(names)
            axes.plot(scores["interval"], [y, y], color=colours(study)[run], linewidth=2)
            axes.plot(scores["micro"], y, "o", color=colours(study)[run])
            names.append(f"{study.labels[run]}, {setting}-shot")
    axes.axvline(first["chance"], color=INK, linestyle=":", linewidth=1, label="chance")
    axes.axvline(first["baselines"]["longest_option"], color=INK, linestyle="--", linewidth=1, label="longest option")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    what = "demonstration set, not CMMLU" if first["demonstration"] else "CMMLU"
    axes.set_xlabel(f"right answers of {first['questions']} ({what}), 95% interval")
    axes.legend(fontsize=8, loc="upper right")
    return figure


def plot_name(plot: dict) -> str:
    """File name of a plot without its ending, from what it shows."""
    if plot["kind"] != "loss":
        return f"{plot['kind']}-{plot['evaluation']}"
    smooth = f"-smooth-{plot['smooth']}" if plot["smooth"] > 1 else ""
    return f"loss-by-{plot['x']}{smooth}{'-log' if plot['log'] else ''}"


def write_svg(figure: Figure, path: Path) -> None:
    """Write a figure; its identifiers start with the file's name, so that several fit on one page."""
    buffer = io.StringIO()
    with warnings.catch_warnings(), plt.rc_context(STYLE):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's fonts draw the text
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    for old in set(re.findall(r'id="([^"]+)"', svg)):
        svg = svg.replace(f'id="{old}"', f'id="{path.stem}-{old}"').replace(f'#{old}"', f'#{path.stem}-{old}"')
        svg = svg.replace(f"url(#{old})", f"url(#{path.stem}-{old})")
    write_text(path, svg)
