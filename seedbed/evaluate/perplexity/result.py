"""What came of a perplexity."""

from typing import Literal

from seedbed.records import Record


class SplitScores(Record):
    """Of one split: losses in nats per token or word; None where not all of it was read, or text has no words."""

    documents: int
    tokens: int
    loss: float
    perplexity: float
    unigram_loss: float
    bits_per_byte: float | None
    words: int | None
    words_from: Literal["published", "counted"] | None
    word_loss: float | None
    word_perplexity: float | None  # None, too, beyond what a float holds


class Result(Record):
    window: int
    stride: int
    splits: dict[str, SplitScores]
