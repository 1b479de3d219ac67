"""What the text before is worth: a piece of text is predicted after its history, and again without it.

With history, a piece follows the tokens that precede it in the split's stream, ends of documents included; without, it
follows only the token that begins a text. What a position has of its own piece is the same in both, so their difference
is what the model draws from further back. A recurrent model reads both in its segments, counted from where the input
begins, and has of a history what its cache carries on (`CausalLM.logits`).
"""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F

from seedbed.data.tokens import TokenSplit
from seedbed.errors import SeedbedError
from seedbed.evaluate.figures import Scores
from seedbed.evaluate.history.result import Compared, Result
from seedbed.evaluate.intervals import bootstrap_mean, paired_test
from seedbed.iterate import batched
from seedbed.objectives.lm.subject import CausalLM
from seedbed.progress import progress

MOST_LOGITS = 2**28  # of one batch, 1 GiB


def measure(spec: dict, subject: CausalLM) -> tuple[Result, list[dict]]:
    split, begin = subject.split(spec["split"]), subject.begin
    length, history = lengths(spec, subject)
    starts = places(split, history, length, spec["pieces"], np.random.default_rng(spec["seed"]))
    whole = (split.read(start - history, start + length) for start in starts)
    pieces = (np.append(begin["id"], split.read(start, start + length)) for start in starts)
    shown = {"total": len(starts), "unit": "pieces"}
    after = score(subject, progress(whole, what="with history", **shown), history + length, length)
    alone = score(subject, progress(pieces, what="without history", **shown), 1 + length, length)
    result = {
        "length": length,
        "history": history,
        "pieces": len(starts),
        "overlapping": bool(min(np.diff(starts)) < length),
        "begin": begin,
        "overall": compared(after, alone),
        "positions": [
            {"from": first, "to": end, **compared(after[..., first:end], alone[..., first:end])}
            for first, end in bins(length)
        ],
    }
    return result, rows(after, alone)


# --- the pieces ------------------------------------------------------------------------------------------------------


def lengths(spec: dict, subject: CausalLM) -> tuple[int, int]:
    """Tokens of a piece and of its history: together the window of the training, half each, unless the spec says."""
    trained, most = subject.trained_length, subject.most_positions
    length = spec["length"] or max(1, trained // 2)
    history = spec["history"] or trained - length
    if history < 1:
        raise SeedbedError(
            f"{subject.folder}: a piece of {length} leaves no room for history in the {trained} tokens that it was "
            "trained on; expected a smaller length, or history to be given"
        )
    if most and history + length > most:
        raise SeedbedError(
            f"{subject.folder}: history {history} + length {length} are {history + length} tokens; expected at most "
            f"the {most} positions that it has learned"
        )
    return length, history


def places(split: TokenSplit, history: int, length: int, pieces: int, generator: np.random.Generator) -> list[int]:
    """Where pieces start in the stream, in order, each with all its history before it.

    They do not overlap where the stream has room for that, and none comes twice where it has places enough.
    """
    starts = range(history, len(split) - length + 1)
    if not starts:
        raise SeedbedError(
            f"{split.name}: {len(split)} tokens are too few for a piece of {length} after a history of {history}"
        )
    apart = starts[::length]
    choice = apart if len(apart) >= pieces else starts
    return sorted(choice[i] for i in generator.choice(len(choice), pieces, replace=len(choice) < pieces).tolist())


def score(subject: CausalLM, texts: Iterable[np.ndarray], size: int, length: int) -> np.ndarray:
    """Nats and accuracy [2, pieces, length] of the last `length` tokens of texts of `size` tokens.

    Batches have at most the subject's `batch_tokens` and `MOST_LOGITS` logits, or are of one text.
    """
    vocabulary = subject.model.config.get_text_config().vocab_size
    batch_size = max(1, min(subject.at_once(size), MOST_LOGITS // (length * vocabulary)))
    scored = []
    for batch in batched(texts, batch_size):
        tokens = torch.from_numpy(np.stack(batch))
        at = torch.arange(size - 1 - length, size - 1).expand(len(batch), -1)
        for logits, targets in zip(subject.logits(tokens[:, :-1], at=at), tokens[:, -length:], strict=True):
            targets = targets.to(logits.device)
            nats = F.cross_entropy(logits, targets, reduction="none")
            scored.append(torch.stack([nats.double(), (logits.argmax(-1) == targets).double()]).cpu())
    return torch.stack(scored, 1).numpy()


# --- what is told of them --------------------------------------------------------------------------------------------


def compared(after: np.ndarray, alone: np.ndarray) -> Compared:
    """Means of scores [2, pieces, positions] with and without history, and what history gains; intervals by piece."""
    loss, accuracy = gains(after, alone)
    gain = {
        "loss": float(loss.mean()),
        "interval": bootstrap_mean(loss),
        "p": paired_test(loss),
        "accuracy": float(accuracy.mean()),
        "accuracy_interval": bootstrap_mean(accuracy),
    }
    return {"with": means(after), "without": means(alone), "gain": gain}


def gains(after: np.ndarray, alone: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nats that history saves each piece [pieces], and the accuracy that it adds [pieces]."""
    return (alone[0] - after[0]).mean(-1), (after[1] - alone[1]).mean(-1)


def means(scores: np.ndarray) -> Scores:
    loss, accuracy = scores.mean((1, 2))
    return {"loss": float(loss), "accuracy": float(accuracy)}


def bins(length: int) -> list[tuple[int, int]]:
    """Positions 0, 1, 2 to 3, 4 to 7 and so on up to `length`: the first of each and the one after its last."""
    edges = [0, *(2**power for power in range(length.bit_length()) if 2**power < length), length]
    return list(zip(edges, edges[1:], strict=False))


def rows(after: np.ndarray, alone: np.ndarray) -> list[dict]:
    """Means over pieces by position."""
    names = ("loss_with", "accuracy_with", "loss_without", "accuracy_without")
    columns = np.concatenate([after.mean(1), alone.mean(1)]).T.tolist()
    return [{"position": position, **dict(zip(names, row, strict=True))} for position, row in enumerate(columns)]
