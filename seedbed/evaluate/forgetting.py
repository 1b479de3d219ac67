"""Forgetting curve (arXiv 2410.04727): how well a model copies what it has just read, by length.

For a piece T of L tokens, `[b] T [b] T` is read once, and the second half of the second T is scored by argmax; the
control `[b] U [b] T` with an unrelated U shows what the language model knows without memory. `order` takes T and U from
the text of a split, `random` draws ids uniformly, special tokens left out.
"""

from math import ceil

import numpy as np
import torch

from seedbed.errors import SeedbedError
from seedbed.evaluate.intervals import bootstrap_mean, paired_test
from seedbed.evaluate.subject import Subject
from seedbed.iterate import batched
from seedbed.tokens import TokenSplit

FINE = 0.99
SIGNIFICANT = 0.05


def measure(spec: dict, subject: Subject) -> tuple[dict, list[dict]]:
    split = subject.split(spec["split"])
    curves, rows = {}, []
    for text in spec["text"]:
        points = []
        for length in spec["lengths"]:
            accuracies = measure_length(spec, subject, split, text, length)
            points.append(point(length, accuracies))
            rows += [
                {"text": text, "length": length, "repeat": repeat, "copy": copy, "lm": lm}
                for repeat, (copy, lm) in enumerate(accuracies if accuracies is not None else [])
            ]
        curves[text] = {"points": points, "zones": boundaries(points)}
    return {"trained_length": subject.trained_length, "curves": curves}, rows


def measure_length(spec: dict, subject: Subject, split: TokenSplit, text: str, length: int) -> np.ndarray | None:
    """Copy and LM accuracy [repeats, 2]; None where the prompt does not fit the model's positions."""
    prompt_length = 2 * length + 2
    if subject.most_positions and prompt_length > subject.most_positions:
        return None
    generator = np.random.default_rng([spec["seed"], length, ["order", "random"].index(text)])
    begin = begin_token(subject)
    prompts = []
    for _ in range(spec["repeats"]):
        target, other = pieces(subject, split, text, length, generator)
        prompts += [[begin, *target, begin, *target], [begin, *other, begin, *target]]
    scored = []
    for batch in batched(prompts, max(1, spec["batch_tokens"] // prompt_length)):
        scored += copied(subject, torch.tensor(batch), ceil(length / 2))
    return np.array(scored).reshape(-1, 2)


def copied(subject: Subject, prompts: torch.Tensor, last: int) -> list[float]:
    """Share of the `last` tokens of each prompt [batch, length] that are the most likely continuation."""
    predicted = subject.logits(prompts[:, :-1])[:, -last:].argmax(-1).cpu()
    return (predicted == prompts[:, -last:]).double().mean(1).tolist()


def begin_token(subject: Subject) -> int:
    """The token before each piece: the tokenizer's own BOS, or EOS where it has none."""
    tokenizer = subject.tokenizer
    return tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id


def pieces(
    subject: Subject, split: TokenSplit, text: str, length: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A piece to copy and an unrelated one, [length] each, that do not overlap."""
    if text == "random":
        special = set(subject.tokenizer.all_special_ids)
        ids = np.array([i for i in range(split.vocab_size) if i not in special])
        return generator.choice(ids, length), generator.choice(ids, length)
    room = len(split) - 2 * length
    if room < 0:
        raise SeedbedError(f"{split.name}: {len(split)} tokens are too few for two pieces of {length}")
    first, second = sorted(generator.integers(0, room + 1, 2))
    found = [split.read(first, first + length), split.read(second + length, second + 2 * length)]
    swap = generator.integers(2)
    return found[swap], found[1 - swap]


def point(length: int, accuracies: np.ndarray | None) -> dict:
    if accuracies is None:
        return {"length": length, "measurable": False}
    copy, lm = accuracies.T
    p = paired_test(copy - lm)
    return {
        "length": length,
        "measurable": True,
        "copy": distribution(copy),
        "lm": distribution(lm),
        "p": p,
        "zone": zone(copy.mean(), lm.mean(), p),
    }


def distribution(values: np.ndarray) -> dict:
    return {"mean": float(values.mean()), "sd": float(values.std(ddof=1)), "interval": bootstrap_mean(values)}


def zone(copy: float, lm: float, p: float) -> str:
    if copy >= FINE:
        return "fine"
    return "coarse" if copy > lm and p < SIGNIFICANT else "amnesia"


def boundaries(points: list[dict]) -> dict:
    """The length up to which all are in the fine zone, and up to which all are in the fine or coarse one (0: none)."""
    measured = sorted((point for point in points if point["measurable"]), key=lambda point: point["length"])
    found = {"fine": 0, "coarse": 0}
    for name, zones in (("fine", ("fine",)), ("coarse", ("fine", "coarse"))):
        for one in measured:
            if one["zone"] not in zones:
                break
            found[name] = one["length"]
    return found
