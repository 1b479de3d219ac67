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


def draw(study: StudyResults, plot: dict) -> Figure:
    """The figure of one entry of `plots`."""
    drawers = {
        "loss": loss_figure,
        "perplexity": perplexity_figure,
        "forgetting": forgetting_figure,
        "receptive-field": receptive_field_figure,
        "history": history_figure,
        "cmmlu": cmmlu_figure,
        "reconstruction": reconstruction_figure,
        "compression": compression_figure,
    }
    with plt.rc_context(STYLE):
        return drawers[plot["kind"]](study, plot)


def colours(study: StudyResults) -> dict[str, str]:
    return {subject: COLOURS[number % len(COLOURS)] for number, subject in enumerate(study.subjects)}


def loss_figure(study: StudyResults, plot: dict) -> Figure:
    """Training loss (line) and validation loss (dots) against tokens, steps or seconds."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    key = {"steps": "step"}.get(plot["x"], plot["x"])
    for run in study.runs:
        lines, colour = study.metrics(run), colours(study)[run]
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


def perplexity_figure(study: StudyResults, plot: dict) -> Figure:
    """Bits per byte of each split, or loss per token where only some documents were read."""
    found = study.measured(plot["evaluation"])
    splits = list(next(iter(found.values()))["splits"])
    whole = all(result["splits"][split]["bits_per_byte"] is not None for result in found.values() for split in splits)
    key = "bits_per_byte" if whole else "loss"
    figure, axes = plt.subplots(figsize=(7, 0.8 + 0.34 * len(found)), layout="constrained")
    for split, marker in zip(splits, "osD", strict=False):
        values = [result["splits"][split][key] for result in found.values()]
        axes.scatter(values, range(len(found)), marker=marker, c=list(colours(study).values())[: len(found)])
        axes.plot([], [], marker, color=INK, label=split)
    axes.set_yticks(range(len(found)), [study.labels[subject] for subject in found])
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xlabel("bits per byte" if whole else "loss (nats per token)")
    axes.legend(fontsize=8)
    return figure


TEXTS = {"order": "meaningful text", "random": "random tokens"}


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
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
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
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def first_of(found: dict[str, dict]) -> dict:
    return next(iter(found.values()))


def text_panels(found: dict[str, dict]) -> tuple[Figure, dict[str, plt.Axes]]:
    """A panel for each kind of text, with lengths in powers of two."""
    texts = list(first_of(found)["curves"])
    figure, panels = plt.subplots(1, len(texts), figsize=(7, 4), sharey=True, squeeze=False, layout="constrained")
    for axes, text in zip(panels[0], texts, strict=True):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_title(TEXTS[text], fontsize=10)
    return figure, dict(zip(texts, panels[0], strict=True))


def measured_points(found: dict[str, dict], text: str) -> dict[str, list[dict]]:
    curves = {subject: result["curves"][text]["points"] for subject, result in found.items()}
    measured = {subject: [point for point in points if point["measurable"]] for subject, points in curves.items()}
    return {subject: points for subject, points in measured.items() if points}


def mark(panels: dict[str, plt.Axes], places: set[float], style: object, label: str) -> None:
    """Vertical lines in every panel, with one entry in the legend if there is one."""
    for axes in panels.values():
        for number, place in enumerate(sorted(places)):
            axes.axvline(place, color=INK, linestyle=style, linewidth=1, label=label if number == 0 else None)


def accuracy_axis(panels: dict[str, plt.Axes], label: str, limits: tuple = (-0.02, 1.02)) -> None:
    first = next(iter(panels.values()))
    first.set_ylabel(label)
    first.set_ylim(*limits)
    first.yaxis.set_major_formatter(PercentFormatter(1.0))


def band(axes: plt.Axes, x: list[float], values: list[dict], colour: str, label: str) -> None:
    """Means as a line with their 95% intervals as a band."""
    low, high = zip(*(value["interval"] for value in values), strict=True)
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(x, [value["mean"] for value in values], "-", color=colour, label=label)


def draw_curve(axes: plt.Axes, points: list[dict], colour: str, label: str) -> None:
    lengths = [point["length"] for point in points]
    band(axes, lengths, [point["copy"] for point in points], colour, label)
    axes.plot(lengths, [point["lm"]["mean"] for point in points], "--", color=colour, linewidth=1)


def history_figure(study: StudyResults, plot: dict) -> Figure:
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
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("position in the piece (tokens)")
    losses.set_ylabel("loss (nats per token)")
    gains.set_ylabel("gain in accuracy")
    gains.yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.legend(*losses.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def cmmlu_figure(study: StudyResults, plot: dict) -> Figure:
    """Accuracy with its 95% interval for each run or model and number of shots, against chance."""
    found = study.measured(plot["evaluation"])
    first = first_of(found)
    shots = list(first["shots"])
    figure, axes = plt.subplots(figsize=(7, 0.9 + 0.34 * len(found) * len(shots)), layout="constrained")
    names = []
    for subject, result in found.items():
        for setting in shots:
            scores, y = result["shots"][setting], len(names)
            axes.plot(scores["interval"], [y, y], color=colours(study)[subject], linewidth=2)
            axes.plot(scores["micro"], y, "o", color=colours(study)[subject])
            names.append(f"{study.labels[subject]}, {setting}-shot")
    axes.axvline(first["chance"], color=INK, linestyle=":", linewidth=1, label="chance")
    axes.axvline(first["baselines"]["longest_option"], color=INK, linestyle="--", linewidth=1, label="longest option")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    what = "demonstration set, not CMMLU" if first["demonstration"] else f"CMMLU, convention {first['convention']}"
    axes.set_xlabel(f"right answers of {first['questions']} ({what}), 95% interval")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    return figure


def reconstruction_figure(study: StudyResults, plot: dict) -> Figure:
    """Held-out reconstruction while training: loss, against that without memory, and token accuracy, by steps."""
    found = study.measured(plot["evaluation"])
    figure, (losses, accuracies) = plt.subplots(1, 2, figsize=(7, 4), layout="constrained")
    for run in study.runs:
        lines, colour = [line for line in study.metrics(run) if "valid_loss" in line], colours(study)[run]
        steps = [line["step"] for line in lines]
        style = {"color": colour, "marker": "o", "markersize": 3, "linewidth": 1.2}
        losses.plot(steps, [line["valid_loss"] for line in lines], label=study.labels[run], **style)
        accuracies.plot(steps, [line["valid_accuracy"] for line in lines], **style)
        losses.axhline(as_trained(found[run])["ae"]["none"]["loss"], color=colour, linestyle=":", linewidth=1)
    losses.plot([], [], ":", color=INK, linewidth=1, label="at the end, without memory")
    losses.set_yscale("log")
    losses.yaxis.set_major_formatter("{x:g}")
    losses.set_ylabel("reconstruction loss (nats per token)")
    accuracies.set_ylabel("token accuracy")
    accuracies.set_ylim(-0.02, 1.02)
    accuracies.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in (losses, accuracies):
        axes.set_xlabel("steps")
    figure.legend(*losses.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def as_trained(result: dict) -> dict:
    """The setting that is nearest to the training, and to its validation on held-out text."""

    def distance(one: dict) -> tuple[bool, int, int]:
        return one["text"] != "held-out", abs(one["length"] - result["seq_len"]), abs(one["rate"] - result["rate"])

    return min(result["settings"], key=distance)


KINDS_OF_CONTEXT = {"held-out": "held-out text", "patterned": "patterned ids", "random": "random ids"}


def compression_figure(study: StudyResults, plot: dict) -> Figure:
    """Token accuracy of reconstruction by the length of the context, or by the rate; a panel for each kind of text.

    Where both vary, it is by the length, at the rate that is nearest to the training.
    """
    found = study.measured(plot["evaluation"])
    settings = [one for result in found.values() for one in result["settings"]]
    key = "length" if len({one["length"] for one in settings}) > 1 else "rate"
    texts = list(dict.fromkeys(one["text"] for one in settings))
    figure, row = plt.subplots(1, len(texts), figsize=(7, 3.6), sharey=True, squeeze=False, layout="constrained")
    panels = dict(zip(texts, row[0], strict=True))
    for text, axes in panels.items():
        for subject, result in found.items():
            rates = {one["rate"] for one in settings} if key == "rate" else {as_trained(result)["rate"]}
            mine = sorted(
                (one[key], one["ae"]["memory"]["accuracy"])
                for one in result["settings"]
                if one["text"] == text and one["rate"] in rates
            )
            axes.plot(*zip(*mine, strict=True), "o-", color=colours(study)[subject], label=study.labels[subject])
        axes.set_title(KINDS_OF_CONTEXT[text], fontsize=10)
        axes.set_xlabel("context (tokens)" if key == "length" else "tokens per memory vector")
    trained = "seq_len" if key == "length" else "rate"
    mark(panels, {result[trained] for result in found.values()}, ":", "as trained")
    accuracy_axis(panels, "token accuracy")
    figure.legend(*row[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
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
