"""Learning rate over a run, as a fraction of `optimizer.lr`; pure functions of the step.

A schedule is the dump of one of the classes of `seedbed.config.run`. Reduce-on-plateau depends on the validation losses
as well: its state is plain JSON data that `after_validation` updates.
"""

from math import cos, inf, pi, sqrt


def lr_ratio(schedule: dict, step: int, steps: int, plateau_ratio: float = 1.0) -> float:
    """The factor on the peak learning rate for the update number `step` (0 is the first) of `steps`.

    Warm-up is linear and reaches 1 with its last update. `linear` and `cosine` fall to `min_lr_ratio` over the rest;
    `cosine-restarts` does so in `cycles` equal half-waves (SGDR, arXiv 1608.03983); `wsd` stays at 1 until
    `stable_ratio` of all steps and then decays (MiniCPM, arXiv 2404.06395; `sqrt` is 1 - sqrt of the share of the
    decay done, Haegele et al., arXiv 2405.18392). The result is multiplied by `plateau_ratio`, the `ratio` of a
    plateau's state.
    """
    warmup = warmup_steps(schedule, steps)
    if step < warmup:
        return (step + 1) / warmup * plateau_ratio
    return after_warmup(schedule, step, warmup, steps) * plateau_ratio


def after_warmup(schedule: dict, step: int, warmup: int, steps: int) -> float:
    match schedule["kind"]:
        case "constant" | "plateau":
            return 1.0
        case "linear" | "cosine" as shape:
            return fall(shape, share(step, warmup, steps), schedule["min_lr_ratio"])
        case "cosine-restarts":
            done = share_of_cycle(step - warmup, steps - warmup, schedule["cycles"])
            return fall("cosine", done, schedule["min_lr_ratio"])
        case "wsd":
            start = decay_start(schedule, steps)
            return fall(schedule["decay"], share(step, start, steps), schedule["min_lr_ratio"])
    raise ValueError(schedule["kind"])


def warmup_steps(schedule: dict, steps: int) -> int:
    if schedule["warmup_steps"] is not None:
        return schedule["warmup_steps"]
    return round((schedule["warmup_ratio"] or 0) * steps)


def decay_start(schedule: dict, steps: int) -> int:
    """The first update of the decay of a `wsd` schedule; `steps` or more when there is none."""
    return max(warmup_steps(schedule, steps), round(schedule["stable_ratio"] * steps))


def share(step: int, start: int, steps: int) -> float:
    """Fraction of the way from `start` to the end that is done after this update: 0 before `start`, 1 at the last."""
    return 0.0 if step < start else (step + 1 - start) / (steps - start)


def share_of_cycle(step: int, steps: int, cycles: int) -> float:
    """Fraction of its cycle that is done after the update `step` of `steps`: 0 at the first of a cycle, 1 at the last.

    The first cycle begins at the peak that the warm-up ended with, so that one cycle is plain cosine. With that point
    there are `steps` + 1 points, which the cycles share evenly. A cycle of a single update stays at the peak.
    """
    point, points = step + 1, steps + 1
    cycle = ((point + 1) * cycles - 1) // points  # the last one that begins at or before the point
    first, last = cycle * points // cycles, (cycle + 1) * points // cycles - 1
    return (point - first) / max(1, last - first)


def fall(shape: str, done: float, floor: float) -> float:
    """From exactly 1 at `done` 0 to `floor` at `done` 1; `exponential` needs a floor above 0."""
    if shape == "exponential":
        return floor**done
    remaining = {"linear": 1 - done, "cosine": (1 + cos(pi * done)) / 2, "sqrt": 1 - sqrt(done)}[shape]
    return floor + (1 - floor) * remaining


# --- what runs of different length share ------------------------------------------------------------------------------


def stable_until(schedule: dict, steps: int) -> int:
    """How many updates from the start depend neither on the length of the run nor on how it decays."""
    match schedule["kind"]:
        case "constant" | "plateau":
            return steps
        case "wsd":
            return min(steps, decay_start(schedule, steps))
    return 0


def trunk(schedule: dict, steps: int) -> dict:
    """The schedule of the first `stable_until` updates, the same for all schedules that agree on them.

    Its `lr_ratio` equals the schedule's there, exactly. Raises ValueError for a kind that has no such part.
    """
    warmup = warmup_steps(schedule, steps)
    warmup = 0 if warmup == 1 else warmup  # one update that reaches the peak is no warm-up
    match schedule["kind"]:
        case "constant" | "wsd":
            return {"kind": "constant", "warmup_steps": warmup}
        case "plateau":
            return schedule | {"warmup_steps": warmup, "warmup_ratio": None}
    raise ValueError(f"{schedule['kind']}: no part of it is independent of the length of the run")


def common_spec(spec: dict, steps: int, step: int) -> dict:
    """The part of a spec that the state after `step` of `steps` updates depends on.

    Up to `stable_until`, that is all but the budget and the end of the schedule; after it, the whole spec.
    """
    if not 0 < step <= stable_until(spec["schedule"], steps):
        return spec
    return {key: value for key, value in spec.items() if key != "budget"} | {"schedule": trunk(spec["schedule"], steps)}


# --- reduce on plateau ------------------------------------------------------------------------------------------------


def plateau_start() -> dict:
    """The state before the first validation: best loss (None), validations since, ratio to the peak."""
    return {"best": None, "waited": 0, "ratio": 1.0}


def after_validation(schedule: dict, state: dict, loss: float) -> dict:
    """The state after a validation with this loss (nats); `state` is not modified.

    A loss is an improvement if it is below the best one by more than the fraction `threshold`; NaN is none. After more
    than `patience` validations in a row without one, the ratio is multiplied by `factor`, down to `min_lr_ratio`, and
    the count starts again, as in `torch.optim.lr_scheduler.ReduceLROnPlateau` with `mode="min"`,
    `threshold_mode="rel"`.
    """
    best = inf if state["best"] is None else state["best"]
    if loss < best * (1 - schedule["threshold"]):
        return state | {"best": loss, "waited": 0}
    if state["waited"] < schedule["patience"]:
        return state | {"waited": state["waited"] + 1}
    return state | {"waited": 0, "ratio": max(state["ratio"] * schedule["factor"], schedule["min_lr_ratio"])}
