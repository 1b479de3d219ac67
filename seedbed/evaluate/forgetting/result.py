"""What came of a forgetting curve; lengths and distances are in tokens."""

from typing import Literal, NotRequired

from seedbed.evaluate.figures import Begin, Interval
from seedbed.records import Record


class Distribution(Record):
    """Over the repeats; the interval is of the mean."""

    mean: float
    sd: float
    interval: Interval


class Point(Record):
    """One length; where its prompt is longer than the model's positions, it is not measurable."""

    length: int
    distance: float
    prompt_tokens: int
    measurable: bool
    copy: NotRequired[Distribution]
    lm: NotRequired[Distribution]
    gain: NotRequired[Distribution]
    p: NotRequired[float]
    zone: NotRequired[Literal["fine", "coarse", "amnesia"]]


class Zones(Record):
    """Where fine and coarse memory end, and the distance at which coarse memory does; 0 for none."""

    fine: int
    coarse: int
    effective: float


class Curve(Record):
    points: list[Point]
    zones: Zones


class Reach(Record):
    """How far back the model can look (`seedbed.evaluate.forgetting.measure.reach`)."""

    trained_length: int
    window: int
    theoretical: int | None


class Result(Record):
    begin: Begin
    task: Literal["copy", "reverse"]
    shots: int
    reach: Reach
    curves: dict[Literal["order", "random"], Curve]
