"""How much a batch may compute, and where its positions lie: drawn from the seed and the number of the step."""

import random
from dataclasses import dataclass

import torch

from seedbed.data.tokens import mixed
from seedbed.objectives.thinker.flow import Row, planned


@dataclass(frozen=True)
class Compute:
    """What a batch takes: latents (None: as many as positions), the rows of its flow plan, and rows of tables.

    `before` of the rows are run without gradient for the progressive loss, which answers after `until` rows.
    """

    n_latent: int | None
    rows: list[Row]
    places: torch.Tensor
    before: int = 0
    until: int = 0


def drawn(spec: dict, step: int, positions: int) -> Compute:
    """The compute of a step of training: the same on every process and in every micro-batch."""
    draw = random.Random(mixed(mixed(spec["seed"]) ^ step))
    n_latent = draw.choice(spec["n_latent"]) if spec["n_latent"] else None
    rows = rows_of(spec, draw.choice(spec["n_step"]), draw.getrandbits(63))
    before = draw.randrange(len(rows))
    until = draw.randrange(before + 1, len(rows) + 1)
    return Compute(n_latent, rows, places(spec["model"], positions, draw), before, until)


def rows_of(spec: dict, n_step: int, seed: int) -> list[Row]:
    """The flow plan of a batch in training; where the loss is of all steps, all of them answer."""
    model, every = spec["model"], spec["loss"]["kind"] in ("all", "scaled")
    return planned(model["flow"], n_step, seed, model["static_memory"] > 0, model["read_step"], every)


def measured(spec: dict, n_latent: int | None, n_step: int, positions: int, every: bool = False) -> Compute:
    """The compute of a measurement, in which a model trained on random flow plans takes the plain loop."""
    model = spec["model"]
    flow = None if model["flow"] == "random" else model["flow"]
    rows = planned(flow, n_step, 0, model["static_memory"] > 0, model["read_step"], every)
    return Compute(n_latent, rows, places(model, positions, random.Random(0)))


def places(model: dict, positions: int, draw: random.Random) -> torch.Tensor:
    """The rows of the tables of positions that a batch uses, in order."""
    if model["positions"] == "random":
        return torch.tensor(sorted(draw.sample(range(model["position_range"]), positions)))
    return torch.arange(positions)
