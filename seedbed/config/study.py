"""Configuration of a study: what to compare, how to evaluate and plot it."""

from datetime import date as Date
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from seedbed.config.fields import LONGEST_NAME, MOST_NUMBERS, Name, Positive, Strict
from seedbed.evaluate import EVALUATIONS

MOST_RUNS = 5000  # of a configuration, which a plan makes in a moment
# The kind of evaluation that each kind of plot shows.
PLOTS = {plot: kind for kind, evaluation in EVALUATIONS.items() for plot in evaluation.plots}


class LossPlot(Strict):
    """Training loss of every run against what it cost."""

    kind: Literal["loss"]
    # tokens: what a run counts, which may be samples
    x: Literal["tokens", "steps", "seconds"] = "tokens"
    smooth: Annotated[Positive, Field(le=1000)] = 1
    log: bool = False


class EvaluationPlot(Strict):
    """The figure of one evaluation, with every run and model of the study in it."""

    kind: Literal[tuple(PLOTS)]
    evaluation: Name


Plot = Annotated[LossPlot | EvaluationPlot, Field(discriminator="kind")]


def no_number(value: Any) -> Any:
    """Reject what pydantic would take for seconds since 1970."""
    if isinstance(value, int | float):
        raise ValueError("expected a date, such as 2026-01-31")
    return value


# Values to vary: plain ones, or any by label.
Values = Annotated[
    Annotated[list[Any], Tag("<list>")] | Annotated[dict[Name, Any], Tag("<labels>")],
    Discriminator(lambda values: "<labels>" if isinstance(values, dict) else "<list>"),
]


class Study(Strict):
    """What to compare: `base` with what to `vary`, or a list of `runs`; and external `models`."""

    date: Annotated[Date, BeforeValidator(no_number)]
    title: str
    notes: str = ""
    base: Name | None = None
    vary: dict[str, Values] = {}
    runs: Annotated[list[Name], Field(max_length=MOST_RUNS)] = []
    models: Annotated[list[Name], Field(max_length=MOST_NUMBERS)] = []
    evaluate: Annotated[list[Name], Field(max_length=MOST_NUMBERS)] = []
    plots: Annotated[list[Plot], Field(max_length=MOST_NUMBERS)] = []

    @model_validator(mode="after")
    def has_runs(self) -> "Study":
        if self.base and self.runs or not (self.base or self.runs or self.models):
            raise ValueError("expected either base (with vary) or runs, or models alone")
        if self.vary and not self.base:
            raise ValueError("vary needs a base run")
        for key, values in self.vary.items():
            if len(key) > LONGEST_NAME:
                raise ValueError(f"vary: a key of {len(key)} characters; expected at most {LONGEST_NAME}")
            if not values:
                raise ValueError(f"vary.{key}: expected at least one value")
        return self
