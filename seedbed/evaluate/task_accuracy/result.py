"""What came of the accuracy on a task."""

from seedbed.evaluate.figures import Interval
from seedbed.records import Record


class Part(Record):
    """A share with its interval."""

    mean: float
    interval: Interval


class Right(Record):
    """Shares of problems: `token`, the mean share of symbols that are right; `exact`, all symbols are right."""

    token: Part
    exact: Part


class Setting(Right):
    """One length, number of latents (None: one for each position) and number of steps.

    `trained` says whether all of them lie within what was trained.
    """

    length: int
    n_latent: int | None
    n_step: int
    samples: int
    trained: bool


class Claim(Setting):
    """`shared` is the share of the problems that training may have had, because there are so few of them."""

    shared: float


class Iteration(Right):
    n_step: int


class Range(Record):
    first: int
    last: int


class Trained(Record):
    """What was trained; `length` is up to where a growing curriculum came."""

    length: Range
    n_latent: Range | None
    n_step: Range


class Reached(Record):
    """When validation first had the accuracy; seconds of training."""

    step: int
    samples: int
    seconds: float


class Training(Record):
    """`reached` is of the token accuracy `reach` in validation, None where that never came; the rest is the end."""

    reach: float
    reached: Reached | None
    valid_accuracy: float
    valid_exact: float
    seconds: float


class Time(Record):
    """Median seconds of a batch, and their share of all parts."""

    seconds: float
    share: float


class Times(Record):
    """Of `batches` of training with `samples` each."""

    batches: int
    samples: int
    data: Time
    forward: Time
    backward: Time


class Result(Record):
    """`length` is that of the run; `by_iteration` is at this length, None where a step's answer needs a run of its own.

    `claim` has each length at the setting that the configuration fixes.
    """

    task: str
    length: int
    decoding: str
    parameters: int
    trained: Trained
    settings: list[Setting]
    claim: list[Claim]
    by_iteration: list[Iteration] | None
    training: Training
    times: Times | None
