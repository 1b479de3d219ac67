"""Forgetting curve (arXiv 2410.04727): how well a model copies what it has just read, by length.

For a piece T of L tokens, `[b] T [b] T` is read once, and the second half of the second T is scored by argmax; the
control `[b] U [b] T` with an unrelated U shows what the language model knows without memory. `order` takes T and U from
the text of a split, `random` draws ids uniformly, special tokens left out. With the task `reverse` the second T is
backwards. With `shots` k, k other pieces D come before, each as `[b] D [b] D [e]`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch

from seedbed.data.tokens import TokenSplit
from seedbed.errors import SeedbedError
from seedbed.evaluate.forgetting.result import Distribution, Point, Reach, Result, Zones
from seedbed.evaluate.intervals import bootstrap_mean, paired_test
from seedbed.iterate import batched
from seedbed.objectives.lm.subject import CausalLM
from seedbed.progress import progress

FINE = 0.99
SIGNIFICANT = 0.05
TEXTS = ("order", "random")


def measure(spec: dict, subject: CausalLM) -> tuple[Result, list[dict]]:
    split = subject.split(spec["split"])
    curves, rows = {}, []
    for text in spec["text"]:
        points = []
        for length in progress(spec["lengths"], what=f"{text} text", unit="lengths"):
            task = Task(length, spec["task"], spec["shots"], subject.begin["id"], end_token(subject))
            accuracies = measure_length(spec, subject, split, text, task)
            points.append(point(task, accuracies))
            rows += [
                {"text": text, "length": length, "repeat": repeat, "copy": copy, "lm": lm}
                for repeat, (copy, lm) in enumerate(accuracies if accuracies is not None else [])
            ]
        curves[text] = {"points": points, "zones": boundaries(points)}
    begin = {"begin": subject.begin, "task": spec["task"], "shots": spec["shots"]}
    return {**begin, "reach": reach(subject), "curves": curves}, rows


def end_token(subject: CausalLM) -> int:
    """The token between demonstrations: the tokenizer's EOS, or what a text begins with where there is none."""
    end = subject.tokenizer.eos_token_id
    return subject.begin["id"] if end is None else end


def reach(subject: CausalLM) -> Reach:
    """How far back the model can look, in tokens.

    `trained_length` is the longest input in training, `window` what one query attends to at most, and `theoretical`
    how far layers on top of each other could carry information (layers x work_size), where segments are recurrent.
    """
    memory, layers = subject.memory, subject.model.config.get_text_config().num_hidden_layers
    return {
        "trained_length": subject.trained_length,
        "window": memory["work_size"] + memory["cache_size"] if memory else subject.trained_length,
        "theoretical": layers * memory["work_size"] if memory else None,
    }


# --- prompts ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """What is asked of a piece of `length` tokens, with the ids that begin and end a piece."""

    length: int
    task: str
    shots: int
    begin: int
    end: int

    @property
    def prompt_length(self) -> int:
        """Tokens that the model is fed: all but the last one."""
        return self.shots * (2 * self.length + 3) + 2 * self.length + 1

    @property
    def scored(self) -> int:
        """The first half of the answer demonstrates what is asked, the rest counts."""
        return ceil(self.length / 2)

    @property
    def distance(self) -> float:
        """Mean number of tokens from a scored token back to where it was read."""
        if self.task == "copy":
            return self.length + 1
        return 2 * self.length - self.scored + 1

    def answer(self, piece: np.ndarray) -> np.ndarray:
        return piece if self.task == "copy" else piece[::-1]

    def prompt(self, read: np.ndarray, asked: np.ndarray, others: list[np.ndarray]) -> list[int]:
        """`asked` after `read`, which is the same piece or an unrelated one, after the demonstrations of others."""
        ids = []
        for other in others:
            ids += [self.begin, *other, self.begin, *self.answer(other), self.end]
        return [*ids, self.begin, *read, self.begin, *self.answer(asked)]


def measure_length(spec: dict, subject: CausalLM, split: TokenSplit, text: str, task: Task) -> np.ndarray | None:
    """Copy and LM accuracy [repeats, 2]; None where the prompt does not fit the model's positions."""
    if subject.most_positions and task.prompt_length > subject.most_positions:
        return None
    generator = np.random.default_rng([spec["seed"], task.length, TEXTS.index(text)])
    scored = []
    asked = prompts(spec, subject, split, text, task, generator)
    for batch in batched(asked, subject.at_once(task.prompt_length)):
        scored += copied(subject, torch.tensor(batch), task.scored)
    return np.array(scored).reshape(-1, 2)


def prompts(
    spec: dict, subject: CausalLM, split: TokenSplit, text: str, task: Task, generator: np.random.Generator
) -> Iterator[list[int]]:
    """For each repeat the prompt to copy and its control."""
    for _ in range(spec["repeats"]):
        target, unrelated, *others = pieces(subject, split, text, task, generator)
        yield task.prompt(target, target, others)
        yield task.prompt(unrelated, target, others)


def pieces(
    subject: CausalLM, split: TokenSplit, text: str, task: Task, generator: np.random.Generator
) -> list[np.ndarray]:
    """A piece to copy, an unrelated one and those of the demonstrations, [length] each, that do not overlap."""
    count, length = 2 + task.shots, task.length
    if text == "random":
        special = set(subject.tokenizer.all_special_ids)
        ids = np.array([i for i in range(split.vocab_size) if i not in special])
        return [generator.choice(ids, length) for _ in range(count)]
    room = len(split) - count * length
    if room < 0:
        raise SeedbedError(f"{split.name}: {len(split)} tokens are too few for {count} pieces of {length}")
    starts = np.sort(generator.integers(0, room + 1, count)) + length * np.arange(count)
    return [split.read(start, start + length) for start in generator.permutation(starts).tolist()]


def copied(subject: CausalLM, prompts: torch.Tensor, last: int) -> list[float]:
    """Share of the `last` tokens of each prompt [batch, length] that are the most likely continuation."""
    fed = prompts[:, :-1]
    at = torch.arange(fed.shape[1] - last, fed.shape[1]).expand(len(fed), -1)
    predicted = subject.logits(fed, at).argmax(-1).cpu()
    return (predicted == prompts[:, -last:]).double().mean(1).tolist()


# --- curves ----------------------------------------------------------------------------------------------------------


def point(task: Task, accuracies: np.ndarray | None) -> Point:
    place = {"length": task.length, "distance": task.distance, "prompt_tokens": task.prompt_length}
    if accuracies is None:
        return {**place, "measurable": False}
    copy, lm = accuracies.T
    p = paired_test(copy - lm)
    return {
        **place,
        "measurable": True,
        "copy": distribution(copy),
        "lm": distribution(lm),
        "gain": distribution(copy - lm),
        "p": p,
        "zone": zone(copy.mean(), lm.mean(), p),
    }


def distribution(values: np.ndarray) -> Distribution:
    """Mean, standard deviation, and 95% bootstrap interval of the mean."""
    return {"mean": float(values.mean()), "sd": float(values.std(ddof=1)), "interval": bootstrap_mean(values)}


def zone(copy: float, lm: float, p: float) -> str:
    """Fine-grained memory, coarse memory (better than without memory) or amnesia, as the paper names them."""
    if copy >= FINE:
        return "fine"
    return "coarse" if copy > lm and p < SIGNIFICANT else "amnesia"


def boundaries(points: list[Point]) -> Zones:
    """Where the zones end: the length up to which all are fine, and up to which all are fine or coarse (0: none).

    `effective` is the effective receptive field: the distance in tokens at the end of coarse memory.
    """
    measured = sorted((point for point in points if point["measurable"]), key=lambda point: point["length"])
    found = {"fine": 0, "coarse": 0, "effective": 0}
    for name, zones, value in (
        ("fine", ("fine",), "length"),
        ("coarse", ("fine", "coarse"), "length"),
        ("effective", ("fine", "coarse"), "distance"),
    ):
        for one in measured:
            if one["zone"] not in zones:
                break
            found[name] = one[value]
    return found
