"""Plots of a study as SVG that follows the page around it.

Text stays text, so that the reader's own fonts show Chinese; ink is `currentColor` and the background transparent, so
that one file serves light and dark pages.
"""

import io
import re
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from seedbed.checksums import FileFacts, Inside, described_files, verify
from seedbed.errors import SeedbedError
from seedbed.files import replacing, write_text
from seedbed.records import Record, read_record, write_record
from seedbed.report.axes import INK, colours
from seedbed.report.kinds import plot_of
from seedbed.report.results import StudyResults

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
    "text.parse_math": False,  # a label may have dollar signs
    "axes.grid": True,
    "grid.alpha": 0.2,
    **{
        key: INK
        for key in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
    },
}


class Plots(Record):
    """plots.json beside the plots of a study: the files that were drawn."""

    files: dict[Inside, FileFacts]


def write_plots(study: StudyResults, target: Path) -> None:
    """Write a directory with an SVG of each entry of `plots`."""
    with replacing(target, r".*\.svg|plots\.json") as folder:
        folder.mkdir()
        for plot in study.spec["plots"]:
            write_svg(draw(study, plot), folder / f"{plot_name(plot)}.svg")
        write_record(folder / "plots.json", Plots, {"files": described_files(folder)})


def read_plot(folder: Path, plot: dict) -> str:
    """The SVG of an entry of `plots`, verified."""
    name, files = f"{plot_name(plot)}.svg", read_record(folder / "plots.json", Plots)["files"]
    if name not in files:
        raise SeedbedError(f"{folder / name}: no such plot; expected one of {', '.join(files)}")
    verify(folder / name, files[name], folder)
    return (folder / name).read_text(encoding="utf-8")


def draw(study: StudyResults, plot: dict) -> Figure:
    """The figure of one entry of `plots`."""
    drawn = loss_figure if plot["kind"] == "loss" else plot_of(plot["kind"]).draw
    with plt.rc_context(STYLE):
        return drawn(study, plot)


def loss_figure(study: StudyResults, plot: dict) -> Figure:
    """Training loss (line) and validation loss (dots) against what was trained on, steps or seconds."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for run in study.runs:
        key = {"steps": "step", "tokens": study.unit(run)}.get(plot["x"], plot["x"])
        lines, colour = study.metrics(run), colours(study)[run]
        x, loss = np.array([line[key] for line in lines]), smoothed([line["loss"] for line in lines], plot["smooth"])
        axes.plot(x, loss, color=colour, linewidth=1.2, label=study.labels[run])
        valid = [line for line in lines if "valid_loss" in line]
        axes.plot(
            [line[key] for line in valid], [line["valid_loss"] for line in valid], "o", color=colour, markersize=4
        )
    axes.plot([], [], "-", color=INK, linewidth=1.2, label="training")
    axes.plot([], [], "o", color=INK, markersize=4, label="validation")
    axes.set_xlabel({"tokens": f"training {study.units}", "seconds": "training time"}.get(plot["x"], plot["x"]))
    axes.set_ylabel("loss (nats per token)" if study.units == "tokens" else "loss")
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
