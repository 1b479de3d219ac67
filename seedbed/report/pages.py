"""HTML pages that need no network: styles and plots are inside, text from corpora and models is escaped."""

from math import exp
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from seedbed.fields import format_count
from seedbed.report.gather import Gathered
from seedbed.report.plots import plot_name


def environment() -> Environment:
    made = Environment(loader=PackageLoader("seedbed.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {"percent": percent, "seconds": duration, "count": big, "number": number}
    made.filters |= {"exponential": exponential, "paragraphs": paragraphs}
    return made


def study_page(study: Gathered, plots: Path) -> str:
    """The report of one study; `plots` is the directory of its SVG files."""
    spec = study.spec
    return (
        environment()
        .get_template("study.html")
        .render(
            spec=spec,
            title=spec["title"],
            varied=study.varied,
            labels=study.labels,
            summaries={run: study.summary(run) for run in study.runs},
            provenance={run: study.provenance(run) for run in study.runs},
            plots=[
                (plot, Markup((plots / f"{plot_name(plot)}.svg").read_text(encoding="utf-8"))) for plot in spec["plots"]
            ],
            shared=shared_tokens(study),
            perplexity=by_run(study, "perplexity"),
            forgetting=by_run(study, "forgetting"),
            cmmlu=by_run(study, "cmmlu"),
            samples=by_run(study, "samples"),
        )
    )


def shared_tokens(study: Gathered) -> dict | None:
    """Tokens that the runs were trained on, and would have been without what they share; None if they share nothing."""
    runs = [study.summary(run) for run in dict.fromkeys(study.runs)]
    alone = sum(run["tokens"] for run in runs)
    trained = sum(part["own_tokens"] for part in [*runs, *(study.trunk(name) for name in study.spec["trunks"])])
    return {"alone": alone, "trained": trained, "saved": alone - trained} if trained < alone else None


def by_run(study: Gathered, kind: str) -> dict[str, dict[str, dict]]:
    """Results of the study's evaluations of one kind: by evaluation, then by run."""
    return {name: {run: study.evaluation(run, name) for run in study.runs} for name in study.of_kind(kind)}


def milestones_page(studies: list[tuple[dict, pd.DataFrame]]) -> str:
    """The index: one dated entry per study, the newest first, from specs and tables."""
    entries = [{"spec": spec, "table": table.to_dict("records")} for spec, table in studies]
    entries.sort(key=lambda entry: entry["spec"]["date"], reverse=True)
    return environment().get_template("milestones.html").render(title="Milestones", entries=entries)


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def number(value: float | None, digits: int = 2) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:,.{digits}f}" if abs(value) < 1e7 else f"{value:.1e}"


def exponential(power: float | None) -> str:
    """e to a power as people can read it: text with few spaces has words of astronomic perplexity."""
    if power is None:
        return "–"
    return number(exp(power), 1) if power < 15 else f"e^{power:.0f}"


def big(value: int) -> str:
    return format_count(value) if len(format_count(value)) < 7 else f"{value:,}"


def duration(seconds: float) -> str:
    """Seconds as people say them: 75 is `1 min 15 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def paragraphs(text: str) -> list[str]:
    return [part.strip() for part in text.split("\n\n") if part.strip()]
