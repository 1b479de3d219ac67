"""Loss spikes: what is one, and where to go back to; pure data, so that it can lie in a checkpoint."""

from math import ceil, isfinite


def watch_start() -> dict:
    """The state before the first step: recent losses, batches left out so far, and the spikes that were met."""
    return {"recent": [], "skipped": 0, "met": []}


def find_spike(spec: dict, recent: list[float], losses: list[float]) -> tuple[int, float | None] | None:
    """The index of the first of `losses` that is a spike after those in `recent`, and the limit it broke.

    A loss that is not finite always is one (limit None); one over `factor` times the running quantile is, once
    `window` losses were seen.
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
    """The smallest of the values that at least that share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def calm(spec: dict, state: dict, losses: list[float]) -> dict:
    """The state after steps without a spike."""
    return state | {"recent": (state["recent"] + losses)[-spec["window"] :]}


def way_back(spec: dict, step: int) -> int:
    """The step to go back to from a spike in the update that led to `step`."""
    return (step - 1) // spec["every"] * spec["every"]


def after_rollback(state: dict, spike: dict, kept: dict) -> dict:
    """The state to continue with: what the checkpoint `kept` had, and the spike of `state`.

    `spike` has step, loss, limit and back_to; the batches read between are left out from now on.
    """
    lost = spike["step"] - spike["back_to"]
    return kept | {"skipped": state["skipped"] + lost, "met": [*state["met"], spike | {"skipped": lost}]}
