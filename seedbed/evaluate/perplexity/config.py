"""What a user may write of a perplexity."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from seedbed.config.fields import MOST_NUMBERS, Positive
from seedbed.evaluate.contract import OnText, SplitName


class Perplexity(OnText):
    """Sliding window over whole documents: every token is predicted once, with at least window - stride of context."""

    plots = ("perplexity",)

    kind: Literal["perplexity"]
    splits: Annotated[list[SplitName], Field(max_length=MOST_NUMBERS)] = ["valid", "test"]
    window: Positive | None = None
    stride: Positive | None = None
    max_tokens: Positive | None = None

    @property
    def needed_splits(self) -> list[str]:
        return self.splits

    @model_validator(mode="after")
    def stride_within_window(self) -> "Perplexity":
        if self.window and self.stride and self.stride > self.window:
            raise ValueError(f"stride {self.stride} skips tokens: expected at most the window, {self.window}")
        return self
