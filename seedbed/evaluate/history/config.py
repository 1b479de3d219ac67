"""What a user may write of a history evaluation."""

from typing import Annotated, Literal

from pydantic import Field

from seedbed.config.fields import Count, Positive
from seedbed.evaluate.contract import OnText, SplitName


class History(OnText):
    """What the text before is worth: loss and accuracy by position in a piece, after its history and without."""

    plots = ("history",)

    kind: Literal["history"]
    split: SplitName = "test"
    length: Positive | None = None
    history: Positive | None = None
    # fewer than six pairs cannot reach p < 0.05
    pieces: Annotated[Positive, Field(ge=6)] = 64
    seed: Count = 0
