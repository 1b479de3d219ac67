"""What a report shows of multiple-choice questions."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from seedbed.evaluate.cmmlu.result import Result
from seedbed.report.axes import INK, colours, first_of, legend_below
from seedbed.report.contract import Plot, Report
from seedbed.report.results import StudyResults


def columns(result: Result) -> dict:
    found = {}
    for shots, scores in result["shots"].items():
        named = {"micro": scores["micro"], "macro": scores["macro"], "margin": scores["margin"]}
        named |= dict(zip(("low", "high"), scores["interval"], strict=True))
        named |= {category: facts["macro"] for category, facts in scores["categories"].items()}
        found |= {f"{shots}-shot.{key}": value for key, value in named.items()}
    return found


def figure_of(study: StudyResults, plot: dict) -> Figure:
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
    legend_below(figure, axes, columns=2)
    return figure


REPORT = Report(columns, plots={"cmmlu": Plot(figure_of, "Multiple-choice accuracy against chance.")})
