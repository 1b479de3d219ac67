"""What a report shows of perplexities."""

from math import exp

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from seedbed.evaluate.perplexity.result import Result
from seedbed.report.axes import INK, colours, first_of
from seedbed.report.contract import Plot, Report
from seedbed.report.results import StudyResults
from seedbed.report.text import number


def columns(result: Result) -> dict:
    """The figures of each split, those of words only where text has words."""
    keys = ("perplexity", "loss", "unigram_loss", "bits_per_byte", "word_loss")
    return {
        f"{split}.{key}": scores[key]
        for split, scores in result["splits"].items()
        for key in keys
        if key != "word_loss" or scores[key] is not None
    }


def figure_of(study: StudyResults, plot: dict) -> Figure:
    """Bits per byte of each split, or loss per token where only some documents were read."""
    found = study.measured(plot["evaluation"])
    splits = list(first_of(found)["splits"])
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


def any_words(results: dict[str, Result]) -> bool:
    return any(scores["word_loss"] is not None for result in results.values() for scores in result["splits"].values())


def exponential(power: float | None) -> str:
    """e to a power as people can read it: an untrained model's words have astronomic perplexity."""
    if power is None:
        return "–"
    return number(exp(power), 1) if power < 15 else f"e^{power:.0f}"


REPORT = Report(
    columns,
    plots={"perplexity": Plot(figure_of, "How well each split is predicted; lower is better.")},
    names={"exponential": exponential, "any_words": any_words},
    before_plots=True,
)
