"""What came of samples."""

from seedbed.evaluate.figures import Begin
from seedbed.records import Record


class Repetition(Record):
    """Shares of n-grams (`seedbed.evaluate.samples.measure`); None where there are none."""

    repetition: float | None
    distinct_1: float | None
    distinct_2: float | None
    distinct_3: float | None


class Sample(Repetition):
    """One continuation; `fits` is false where the model's positions end before its first token."""

    prompt: str
    continuation: str
    fits: bool
    tokens: int
    ended: bool


class Setting(Repetition):
    """All prompts by one setting of `decoding`, with the means of their figures."""

    label: str
    decoding: str | dict
    samples: list[Sample]


class Result(Record):
    data: dict[str, str]  # checksum of the prompts
    begin: Begin
    settings: list[Setting]
