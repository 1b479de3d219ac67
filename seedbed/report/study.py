"""The report of one study."""

from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

from seedbed.report.draw import read_plot
from seedbed.report.kinds import part_of, plot_of, report_of
from seedbed.report.pages import environment
from seedbed.report.results import StudyResults
from seedbed.report.text import big


def study_page(study: StudyResults, plots: Path) -> str:
    """The page; `plots` is the directory of its SVG files."""
    spec, made = study.spec, environment()
    summaries = {run: study.summary(run) for run in study.runs}
    unit = {run: study.unit(run) for run in study.runs}
    parts = [(report_of(kind).before_plots, part(made, study, name)) for name, kind in spec["evaluations"].items()]
    return made.get_template("study.html").render(
        spec=spec,
        title=spec["title"],
        varied=study.varied,
        labels=study.labels,
        summaries=summaries,
        provenance={run: study.provenance(run) for run in study.runs},
        unit=unit,
        units=study.units,
        trained_on=[f"{big(summary[unit[run]])} {unit[run]}" for run, summary in summaries.items()],
        plots=[(plot, caption(plot), Markup(read_plot(plots, plot))) for plot in spec["plots"]],
        shared=shared(study),
        before_plots=[shown for before, shown in parts if before],
        after_plots=[shown for before, shown in parts if not before],
    )


def part(made: Environment, study: StudyResults, name: str) -> Markup:
    """What the page shows of one evaluation."""
    kind = study.spec["evaluations"][name]
    template = made.from_string(part_of(kind, "page.html").read_text(encoding="utf-8"))
    return Markup(
        template.render(name=name, results=study.measured(name), labels=study.labels, **report_of(kind).names)
    )


def caption(plot: dict) -> str | None:
    """What a kind of evaluation says of its plot."""
    return None if plot["kind"] == "loss" else plot_of(plot["kind"]).caption


def shared(study: StudyResults) -> list[dict]:
    """By unit, how much the runs were trained on, and would have been without the steps that they share, if any."""
    runs = list(dict.fromkeys(study.runs))
    parts = [*map(study.summary, runs), *map(study.trunk, study.spec["trunks"])]
    found = []
    for unit in dict.fromkeys(map(study.unit, runs)):
        alone = sum(study.summary(run)[unit] for run in runs if study.unit(run) == unit)
        trained = sum(one.get(f"own_{unit}", 0) for one in parts)
        found += [{"unit": unit, "alone": alone, "trained": trained}] if trained < alone else []
    return found
