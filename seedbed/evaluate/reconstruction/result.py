"""What came of a reconstruction; losses are in nats per token."""

from typing import Literal

from seedbed.evaluate.figures import Interval
from seedbed.records import Record


class View(Record):
    """With one thing that the decoder sees; None where that was not measurable."""

    loss: float | None
    accuracy: float | None


class Reconstructed(Record):
    memory: View
    none: View
    other: View


class Continued(Record):
    memory: View
    full: View
    none: View


class Worth(Record):
    """Nats per token saved by the memory, over the samples."""

    mean: float
    interval: Interval
    p: float


class Gain(Record):
    """What memory is worth against none, against another's, and to a continuation, where that was trained."""

    none: Worth
    other: Worth
    continuation: Worth | None


class Piece(Record):
    """Of an original and its reconstruction, a stretch that is the `same` in both or is not."""

    text: str
    same: bool


class Shown(Record):
    original: list[Piece]
    written: list[Piece]


class Setting(Record):
    """One kind of text, length and rate; `bleu` and `exact` are of the `generated` ones alone."""

    text: Literal["held-out", "patterned", "random"]
    length: int
    rate: int
    samples: int
    vectors: int
    ratio: float
    ae: Reconstructed
    lm: Continued
    gain: Gain
    generated: int
    bleu: float | None
    exact: float | None
    shown: list[Shown]


class Result(Record):
    """With what the run says of its training."""

    memory_tokens: int
    rate: int
    layout: str
    decoder: str
    lora: dict | None
    seq_len: int
    lm_ratio: float
    continuation: int
    leave_tokens_for_lm: int
    settings: list[Setting]
