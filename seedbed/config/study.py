"""Configuration of a study: what to compare, how to evaluate and plot it."""

from datetime import date as Date
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from seedbed.config.fields import Name, Positive, Strict
from seedbed.evaluate import EVALUATIONS

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


class Study(Strict):
    """What to compare: `base` with what to `vary`, or a list of `runs`; and external `models`."""

    date: Annotated[Date, BeforeValidator(no_number)]
    title: str
    notes: str = ""
    base: Name | None = None
    vary: dict[str, list[Any] | dict[Name, Any]] = {}
    runs: list[Name] = []
    models: list[Name] = []
    evaluate: list[Name] = []
    plots: list[Plot] = []

    @model_validator(mode="after")
    def has_runs(self) -> "Study":
        if self.base and self.runs or not (self.base or self.runs or self.models):
            raise ValueError("expected either base (with vary) or runs, or models alone")
        if self.vary and not self.base:
            raise ValueError("vary needs a base run")
        for key, values in self.vary.items():
            if not values:
                raise ValueError(f"vary.{key}: expected at least one value")
        return self
