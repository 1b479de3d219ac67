"""What came of a history evaluation."""

from typing_extensions import TypedDict

from seedbed.evaluate.figures import Begin, Interval, Scores
from seedbed.records import Record


class Gain(Record):
    """What history saves, in nats per token, and adds in accuracy; the p-value is that of the loss."""

    loss: float
    interval: Interval
    p: float
    accuracy: float
    accuracy_interval: Interval


class Compared(TypedDict("Sides", {"with": Scores, "without": Scores}), Record):
    """The same tokens with and without history."""

    gain: Gain


class Bin(TypedDict("Range", {"from": int, "to": int}), Compared):
    """The positions from..to-1 of a piece."""


class Result(Record):
    length: int
    history: int
    pieces: int
    overlapping: bool  # whether pieces share tokens
    begin: Begin
    overall: Compared
    positions: list[Bin]
