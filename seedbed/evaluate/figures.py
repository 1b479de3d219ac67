"""What results of several kinds are made of.

`Result` in `result.py` of a kind says what its JSON has; `measure` returns it, and `report` reads it. Tests hold both
what is measured and what a report is tested on to it.
"""

from pydantic import ConfigDict
from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12


class Figures(TypedDict):
    """A part of a result, with no other keys than those that its subclass names."""

    __pydantic_config__ = ConfigDict(extra="forbid")


Interval = tuple[float, float]  # 95%


class Scores(Figures):
    """Means over tokens: nats per token, and the share that is right."""

    loss: float
    accuracy: float


class Begin(TypedDict("Begin", {"is": str}), Figures):
    """The token that a text begins with, and whether it `is` the tokenizer's BOS or stands in for it."""

    id: int
    token: str
