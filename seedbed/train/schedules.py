"""Learning rate over a run, as a share of `optimizer.lr`; pure functions of the step."""

from math import cos, pi, sqrt


def lr_ratio(schedule: dict, step: int, steps: int) -> float:
    """The factor on the peak learning rate for the update number `step` (0 is the first) of `steps`.

    Warm-up is linear and reaches 1 with its last update. `linear` and `cosine` fall to `min_lr_ratio` over the rest;
    `wsd` stays at 1 until `stable_ratio` of all steps and then decays (MiniCPM, arXiv 2404.06395; `sqrt` is 1 - sqrt
    of the share of the decay done, Haegele et al., arXiv 2405.18392).
    """
    warmup = warmup_steps(schedule, steps)
    if step < warmup:
        return (step + 1) / warmup
    match schedule["kind"]:
        case "constant":
            return 1.0
        case "linear":
            return fall("linear", share(step, warmup, steps), schedule["min_lr_ratio"])
        case "cosine":
            return fall("cosine", share(step, warmup, steps), schedule["min_lr_ratio"])
        case "wsd":
            start = max(warmup, round(schedule["stable_ratio"] * steps))
            return fall(schedule["decay"], share(step, start, steps), schedule["min_lr_ratio"])
    raise ValueError(schedule["kind"])


def warmup_steps(schedule: dict, steps: int) -> int:
    if schedule["warmup_steps"] is not None:
        return schedule["warmup_steps"]
    return round((schedule["warmup_ratio"] or 0) * steps)


def share(step: int, start: int, steps: int) -> float:
    """How much of the way from `start` to the end is done after this update: 0 before `start`, 1 at the last."""
    return 0.0 if step < start else (step + 1 - start) / (steps - start)


def fall(shape: str, done: float, floor: float) -> float:
    left = {"linear": 1 - done, "cosine": (1 + cos(pi * done)) / 2, "sqrt": 1 - sqrt(done)}[shape]
    return floor + (1 - floor) * left
