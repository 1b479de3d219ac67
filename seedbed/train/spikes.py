"""Loss spikes: how they are detected, and where to roll back to; the state is plain data, kept in checkpoints."""

from math import ceil, isfinite


def watch_start() -> dict:
    """The state before the first step: recent losses, batches skipped so far, and the spikes met."""
    return {"recent": [], "skipped": 0, "met": []}


def find_spike(spec: dict, recent: list[float], losses: list[float]) -> tuple[int, float | None] | None:
    """The index of the first of `losses` that is a spike after those in `recent`, and the limit it exceeded.

    A loss that is not finite always is one (limit None); one above `factor` times the running quantile is, once
    `window` losses have been seen.
    """
    seen = list(recent)
    for index, loss in enumerate(losses):
        if not isfinite(loss):
            return index, None
        if len(seen) >= spec["window"]:
            limit = spec["factor"] * quantile(seen[-spec["window"] :], spec["quantile"])
            if loss > limit:
                return index, limit
        seen.append(loss)
    return None


def quantile(values: list[float], share: float) -> float:
    """The smallest value that at least this share of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def calm(spec: dict, state: dict, losses: list[float]) -> dict:
    """The state after steps without a spike."""
    return state | {"recent": (state["recent"] + losses)[-spec["window"] :]}


def way_back(spec: dict, step: int) -> int:
    """The step to roll back to after a spike in the update that led to `step`."""
    return (step - 1) // spec["every"] * spec["every"]


def after_rollback(state: dict, spike: dict, saved: dict) -> dict:
    """The state to continue with: `saved`, that of the checkpoint, with the spikes of `state` and this one.

    `spike` has step, loss, limit and back_to; the batches read between are skipped from now on.
    """
    lost = spike["step"] - spike["back_to"]
    return saved | {"skipped": state["skipped"] + lost, "met": [*state["met"], spike | {"skipped": lost}]}
