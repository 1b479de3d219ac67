"""HTML pages that need no network: styles and plots are inside, text from corpora and models is escaped."""

from math import exp
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from seedbed.config.fields import format_count
from seedbed.report.draw import plot_name
from seedbed.report.results import StudyResults

CAPTIONS = {
    "perplexity": "How well each split is predicted; lower is better.",
    "forgetting": "Forgetting curve: how much of a piece comes back right by its length, on meaningful and on random "
    "tokens; bands are 95% intervals of the mean.",
    "receptive-field": "What having read the piece is worth by the distance to it; bands are 95% intervals. Where they "
    "fall to 0, the effective receptive field ends.",
    "history": "Loss by position in a piece of text, after the tokens before it and without, and the gain in accuracy "
    "with its 95% interval.",
    "cmmlu": "Multiple-choice accuracy against chance.",
    "reconstruction": "Reconstruction of held-out contexts while training; dotted is the loss at the end when the "
    "decoder sees no memory.",
    "compression": "How much of a context comes back right from its memory.",
}
TEXTS = {"order": "meaningful", "random": "random", "held-out": "held out", "patterned": "patterned"}


def environment() -> Environment:
    made = Environment(loader=PackageLoader("seedbed.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {"percent": percent, "seconds": duration, "count": big, "number": number}
    made.filters |= {"exponential": exponential, "paragraphs": paragraphs}
    return made


def study_page(study: StudyResults, plots: Path) -> str:
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
            captions=CAPTIONS,
            texts=TEXTS,
            measured={name: study.measured(name) for name in spec["evaluations"]},
        )
    )


def shared_tokens(study: StudyResults) -> dict | None:
    """Tokens that the runs were trained on, and would have been without what they share; None if they share nothing."""
    runs = [study.summary(run) for run in dict.fromkeys(study.runs)]
    alone = sum(run["tokens"] for run in runs)
    trained = sum(part["own_tokens"] for part in [*runs, *(study.trunk(name) for name in study.spec["trunks"])])
    return {"alone": alone, "trained": trained, "saved": alone - trained} if trained < alone else None


def milestones_page(studies: list[tuple[dict, pd.DataFrame]]) -> str:
    """The index: one dated entry per study, the newest first, from specs and tables."""
    entries = [{"spec": spec, "table": rows_of_runs(table)} for spec, table in studies]
    entries.sort(key=lambda entry: entry["spec"]["date"], reverse=True)
    return environment().get_template("milestones.html").render(title="Milestones", entries=entries)


def rows_of_runs(table: pd.DataFrame) -> list[dict]:
    """The rows of a study's table without those of models that were trained elsewhere."""
    if "tokens" not in table:
        return []
    return table[table["tokens"].notna()].convert_dtypes().to_dict("records")


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
