"""What came of multiple-choice questions; shares are in 0..1."""

from typing import Literal

from seedbed.evaluate.figures import Interval
from seedbed.records import Record


class Accuracy(Record):
    questions: int
    accuracy: float
    interval: Interval


class Summary(Record):
    """Accuracy over questions (micro) and over subjects (macro)."""

    questions: int
    micro: float
    interval: Interval
    macro: float
    macro_interval: Interval


class ShotScores(Summary):
    """Of one number of shots (`seedbed.evaluate.cmmlu.choices.scores`)."""

    accuracy_norm: float
    answered: dict[str, float]
    margin: float
    shots_dropped: int
    prompts_without_all_shots: int
    prompts_cut: int
    not_in_training: Summary | None  # None where all or none of them are
    categories: dict[str, Summary]
    subjects: dict[str, Accuracy]


class Contamination(Record):
    """How many questions occur in the training corpora, and by which rule."""

    rule: str
    asked: int
    too_short: int
    contaminated: int
    corpora: list[dict[str, str]]


class Result(Record):
    data: dict[str, str]  # checksum of the questions
    convention: Literal["cmmlu", "lm-eval"]
    demonstration: bool
    questions: int
    prompts_begin_with: list[str]
    intervals: str
    missing_subjects: list[str]
    window: int
    chance: float
    baselines: dict[str, float]
    contamination: Contamination | None  # None where nobody looked
    shots: dict[str, ShotScores]
