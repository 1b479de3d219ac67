"""How well a Thinker answers held-out problems, by length, number of latents and number of steps.

Token accuracy is the mean over problems of the share of their symbols that are right, padding left out; exact match the
share of problems without a mistake. Intervals are Wilson's (1927) over the number of problems. For token accuracy that
is conservative: a mean of shares varies no more than one of zeros and ones with the same mean, and the symbols of a
sequence, which depend on each other, count as one observation.

Where a step's answer is what a shorter run would have ended with, one pass gives the answers of all steps.
"""

import time
from copy import deepcopy
from itertools import pairwise
from math import ceil
from statistics import median

import numpy as np
import torch

from seedbed.evaluate.intervals import wilson
from seedbed.evaluate.task_accuracy.result import (
    Claim,
    Iteration,
    Part,
    Range,
    Result,
    Right,
    Setting,
    Times,
    Trained,
    Training,
)
from seedbed.iterate import batched
from seedbed.objectives.thinker.batch import Batch
from seedbed.objectives.thinker.compute import drawn
from seedbed.objectives.thinker.curriculum import Curriculum
from seedbed.objectives.thinker.objective import Answering
from seedbed.objectives.thinker.subject import ThinkerSubject
from seedbed.objectives.thinker.tasks import Problems, generate
from seedbed.progress import progress

ROOM = 2**24  # numbers in the largest tensors of a pass
PARTS = ("data", "forward", "backward")

# A length, a number of latents and a number of steps.
Point = tuple[int, int | None, int]


def measure(spec: dict, subject: ThinkerSubject) -> tuple[Result, list[dict]]:
    facts = subject.facts
    grid, claims, iterations = asked(spec, facts)
    found, ranges = measured(spec, subject, [*grid, *claims, *iterations]), trained(subject)
    settings = [setting(point, found[point], spec["samples"], ranges) for point in grid]
    result: Result = {
        "task": subject.answerer.task_name,
        "length": facts["length"],
        "decoding": facts["model"]["decoding"],
        "parameters": sum(weight.numel() for weight in subject.answerer.model.parameters()),
        "trained": ranges,
        "settings": settings,
        "claim": [claim(spec, subject, setting(at, found[at], spec["samples"], ranges)) for at in claims],
        "by_iteration": [iteration(point, found[point]) for point in iterations] or None,
        "training": training(subject.metrics, spec["reach"]),
        "times": times(subject, spec["timed"]) if spec["timed"] else None,
    }
    return result, [row_of(one) for one in settings]


# --- what is asked ---------------------------------------------------------------------------------------------------


def asked(spec: dict, facts: dict) -> tuple[list[Point], list[Point], list[Point]]:
    """The grid; the setting of claims at each length; at the run's length, the steps up to the most that are asked."""
    lengths, latents = spec["lengths"] or [facts["length"]], spec["n_latent"] or facts["n_latent"] or [None]
    steps, at = spec["n_step"] or facts["n_step"], spec["at"]
    own = at["n_latent"] or (facts["n_latent"] and facts["n_latent"][-1])
    grid = [(length, n_latent, n_step) for length in lengths for n_latent in latents for n_step in steps]
    claims = [(length, own, steps_at(at, facts, length)) for length in lengths]
    last = max(*steps, steps_at(at, facts, facts["length"]))
    iterations = [(facts["length"], own, step) for step in range(1, last + 1)] if nested(facts) else []
    return grid, claims, iterations


def steps_at(at: dict, facts: dict, length: int) -> int:
    if at["steps_per_symbol"]:
        return ceil(at["steps_per_symbol"] * length)
    return at["n_step"] or facts["n_step"][-1]


def nested(facts: dict) -> bool:
    """Whether the answer at each step is what a run of so many steps ends with.

    Random flow plans are measured as the plain loop. What decodes one by one feeds its last answers back.
    """
    return facts["model"]["decoding"] == "parallel" and facts["model"]["flow"] in (None, "always", "random")


# --- answers ---------------------------------------------------------------------------------------------------------


def measured(spec: dict, subject: ThinkerSubject, points: list[Point]) -> dict[Point, Right]:
    """The figures of each point; those of one length and number of latents are of one pass where they can be."""
    steps = {}
    for length, n_latent, n_step in points:
        steps.setdefault((length, n_latent), set()).add(n_step)
    found = {}
    for (length, n_latent), wanted in progress(list(steps.items()), what="answering", unit="settings"):
        for n_step, shares in right(spec, subject, length, n_latent, sorted(wanted)).items():
            found[length, n_latent, n_step] = figures(shares)
    return found


def right(
    spec: dict, subject: ThinkerSubject, length: int, n_latent: int | None, steps: list[int]
) -> dict[int, np.ndarray]:
    """By number of steps, the share of symbols of each problem that are right [samples]."""
    size = at_once(subject, length, n_latent, steps[-1])
    parts = {step: [] for step in steps}
    for numbers in batched(range(spec["samples"]), size):
        problems = problems_of(spec, subject, length, range(numbers[0], numbers[-1] + 1))
        for step, answers in answered(subject, problems, n_latent, steps).items():
            parts[step].append(shares(problems, answers))
    return {step: np.concatenate(part) for step, part in parts.items()}


def problems_of(spec: dict, subject: ThinkerSubject, length: int, numbers: range) -> Problems:
    return generate(subject.task, spec["split"], spec["seed"], numbers, length, length)


def at_once(subject: ThinkerSubject, length: int, n_latent: int | None, n_step: int) -> int:
    """How many problems of a length are answered at a time: weights of attention, and scores of all steps, have room.

    Memory holds the input and the latents of all steps before.
    """
    geometry, (read, answers) = subject.answerer.model.geometry, subject.task.sizes(length)
    latents = n_latent or max(read, answers)
    weights = geometry.heads * max(latents, answers) * (read + n_step * latents)
    return max(1, ROOM // (weights + n_step * answers * geometry.outputs))


def answered(
    subject: ThinkerSubject, problems: Problems, n_latent: int | None, steps: list[int]
) -> dict[int, np.ndarray]:
    """The answers [B, m] after each number of steps."""
    answerer = subject.answerer
    if nested(subject.facts):
        every = answerer.answers(problems, n_latent, steps[-1], every=True)
        return {step: every[step - 1] for step in steps}
    return {step: answerer.answers(problems, n_latent, step)[-1] for step in steps}


def shares(problems: Problems, answers: np.ndarray) -> np.ndarray:
    """The share of symbols that are right [B], of answers [B, m] up to the longest target."""
    most = answers.shape[1]
    real = np.arange(most) < problems.target_lengths[:, None]
    return ((answers == problems.targets[:, :most]) & real).sum(1) / problems.target_lengths


# --- figures ---------------------------------------------------------------------------------------------------------


def figures(shares: np.ndarray) -> Right:
    return {"token": part(shares), "exact": part(shares == 1)}


def part(values: np.ndarray) -> Part:
    mean = float(values.mean())
    return {"mean": mean, "interval": wilson(mean * len(values), len(values))}


def setting(point: Point, found: Right, samples: int, ranges: Trained) -> Setting:
    named = dict(zip(("length", "n_latent", "n_step"), point, strict=True))
    within = all(ranges[key] is None or inside(value, ranges[key]) for key, value in named.items())
    return {**named, "samples": samples, **found, "trained": within}


def inside(value: int, limits: Range) -> bool:
    return limits["first"] <= value <= limits["last"]


def claim(spec: dict, subject: ThinkerSubject, found: Setting) -> Claim:
    problems = problems_of(spec, subject, found["length"], range(spec["samples"]))
    return {**found, "shared": float(problems.shared.mean())}


def iteration(point: Point, found: Right) -> Iteration:
    return {"n_step": point[2], **found}


def row_of(found: Setting) -> dict:
    """A setting as a row of a table."""
    row = {key: found[key] for key in ("length", "n_latent", "n_step", "samples")}
    for key in ("token", "exact"):
        low, high = found[key]["interval"]
        row |= {key: found[key]["mean"], f"{key}_low": low, f"{key}_high": high}
    return row | {"trained": int(found["trained"])}


# --- training --------------------------------------------------------------------------------------------------------


def trained(subject: ThinkerSubject) -> Trained:
    """What the run was trained with; a growing curriculum may not have come to the run's length."""
    facts = subject.facts
    last = subject.metrics[-1].get("target_length", facts["length"])
    return {
        "length": {"first": Curriculum(facts["curriculum"], facts["length"]).shortest, "last": int(last)},
        "n_latent": facts["n_latent"] and limits(facts["n_latent"]),
        "n_step": limits(facts["n_step"]),
    }


def limits(numbers: list[int]) -> Range:
    return {"first": numbers[0], "last": numbers[-1]}


def training(metrics: list[dict], reach: float) -> Training:
    """When validation had the accuracy `reach` first, and what it had at the end."""
    lines = [line for line in metrics if "valid_accuracy" in line]
    reached = next((line for line in lines if line["valid_accuracy"] >= reach), None)
    return {
        "reach": reach,
        "reached": reached and {key: reached[key] for key in ("step", "samples", "seconds")},
        **{key: lines[-1][key] for key in ("valid_accuracy", "valid_exact", "seconds")},
    }


def times(subject: ThinkerSubject, batches: int) -> Times:
    """Median times of batches as at the end of training; the first one is not counted."""
    facts = subject.facts | {"seed": 0}
    answering = Answering(deepcopy(subject.answerer.model).train(), facts["loss"])
    lengths = trained(subject)["length"]
    found = [timed(subject, facts, answering, lengths, step) for step in range(batches + 1)][1:]
    medians = [median(part) for part in zip(*found, strict=True)]
    parts = {
        name: {"seconds": seconds, "share": seconds / sum(medians)}
        for name, seconds in zip(PARTS, medians, strict=True)
    }
    return {"batches": batches, "samples": facts["batch"], **parts}


def timed(subject: ThinkerSubject, facts: dict, answering: Answering, lengths: Range, step: int) -> list[float]:
    """Seconds for the data, the forward pass with the loss, and the backward pass of one batch."""
    device, numbers = next(answering.parameters()).device, range(step * facts["batch"], (step + 1) * facts["batch"])
    clock = [now(device)]
    batch = Batch.of(generate(subject.task, "train", 0, numbers, lengths["first"], lengths["last"])).to(device)
    clock.append(now(device))
    loss, _ = answering(batch, drawn(facts, step, max(subject.task.sizes(facts["length"]))))
    clock.append(now(device))
    loss.backward()
    clock.append(now(device))
    answering.zero_grad()
    return [later - earlier for earlier, later in pairwise(clock)]


def now(device: torch.device) -> float:
    """Seconds, with nothing under way on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
