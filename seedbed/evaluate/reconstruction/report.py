"""What a report shows of reconstructed contexts."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from seedbed.evaluate.reconstruction.result import Result, Setting
from seedbed.report.axes import INK, accuracy_axis, colours, legend_below, mark
from seedbed.report.contract import Plot, Report
from seedbed.report.results import StudyResults

TEXTS = {"held-out": "held-out text", "patterned": "patterned ids", "random": "random ids"}


def columns(result: Result) -> dict:
    found = {}
    for one in result["settings"]:
        named = {"bleu": one["bleu"], "exact": one["exact"], "ratio": one["ratio"]}
        for task in ("ae", "lm"):
            named |= {f"{task}_loss.{view}": figures["loss"] for view, figures in one[task].items()}
        named |= {f"ae_accuracy.{view}": figures["accuracy"] for view, figures in one["ae"].items()}
        gain = one["gain"]["none"]
        named |= {"gain": gain["mean"], "low": gain["interval"][0], "high": gain["interval"][1]}
        setting = f"{one['text']}-{one['length']}-rate-{one['rate']}"
        found |= {f"{setting}.{key}": value for key, value in named.items()}
    return found


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
    legend_below(figure, losses)
    return figure


def as_trained(result: Result) -> Setting:
    """The setting that is nearest to the training, and to its validation on held-out text."""

    def distance(one: Setting) -> tuple[bool, int, int]:
        return one["text"] != "held-out", abs(one["length"] - result["seq_len"]), abs(one["rate"] - result["rate"])

    return min(result["settings"], key=distance)


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
        axes.set_title(TEXTS[text], fontsize=10)
        axes.set_xlabel("context (tokens)" if key == "length" else "tokens per memory vector")
    trained = "seq_len" if key == "length" else "rate"
    mark(panels, {result[trained] for result in found.values()}, ":", "as trained")
    accuracy_axis(panels, "token accuracy")
    legend_below(figure, row[0][0])
    return figure


REPORT = Report(
    columns,
    plots={
        "reconstruction": Plot(
            reconstruction_figure,
            "Reconstruction of held-out contexts while training; dotted is the loss at the end when the decoder sees "
            "no memory.",
        ),
        "compression": Plot(compression_figure, "How much of a context comes back right from its memory."),
    },
    names={"texts": {"held-out": "held out", "patterned": "patterned", "random": "random"}},
)
