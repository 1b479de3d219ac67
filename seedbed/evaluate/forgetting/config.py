"""What a user may write of a forgetting curve."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from seedbed.config.fields import Count, Few, Positive, Strict, numbers_of
from seedbed.evaluate.contract import OnText, SplitName


class Lengths(Strict):
    """From `first` to `last`, each `step` more than the one before, or without a step twice as much."""

    first: Positive
    last: Positive
    step: Positive | None = None

    @model_validator(mode="after")
    def in_order(self) -> "Lengths":
        if self.last < self.first:
            raise ValueError(f"last {self.last} is less than first {self.first}")
        return self


def written_out(lengths: list[int] | Lengths) -> list[int]:
    """Lengths as a list; a list stays what it is."""
    if isinstance(lengths, list):
        return lengths
    if lengths.step:
        return numbers_of(range(lengths.first, lengths.last + 1, lengths.step))
    doublings = range((lengths.last // lengths.first).bit_length())
    return [lengths.first << doubling for doubling in doublings]


class Forgetting(OnText):
    """Forgetting curve (arXiv 2410.04727): copy accuracy against LM accuracy by length."""

    plots = ("forgetting", "receptive-field")

    kind: Literal["forgetting"]
    lengths: Annotated[
        Annotated[
            Annotated[list[Positive], Few, Tag("<list>")] | Annotated[Lengths, Tag("<lengths>")],
            Discriminator(lambda value: "<lengths>" if isinstance(value, dict | Lengths) else "<list>"),
        ],
        AfterValidator(written_out),
    ]
    text: Annotated[list[Literal["order", "random"]], Few] = ["order", "random"]
    task: Literal["copy", "reverse"] = "copy"
    shots: Count = 0
    split: SplitName = "test"
    # fewer than six pairs cannot reach p < 0.05
    repeats: Annotated[Positive, Field(ge=6)] = 10
    seed: Count = 0
