"""Perplexity by a sliding window over each document.

A document follows the end-of-sequence token, as in training, and every token of its text is predicted once. A window of
`window` inputs moves by `stride`, and only targets that no earlier window scored count, so that each has at least
`window - stride` tokens of context where the document has them.

Documents are read as a stream: what is kept of each is a row with its tokens and nats.
"""

from collections.abc import Iterator
from itertools import groupby
from math import exp, log

import numpy as np
import torch
import torch.nn.functional as F

from seedbed.data.tokens import TokenSplit
from seedbed.evaluate.perplexity.result import Result, SplitScores
from seedbed.iterate import batched
from seedbed.objectives.lm.subject import CausalLM, right_padded
from seedbed.progress import progress

LONGEST_WORD = 15  # characters and the space after it, on average; English has 6, Finnish 8
BUFFERED = 64  # batches of windows that are sorted at a time, so that those of like lengths go together

Window = tuple[int, np.ndarray, int]  # document number, tokens [inputs + 1], how many of the last targets count


def measure(spec: dict, subject: CausalLM) -> tuple[Result, list[dict]]:
    window = spec["window"] or subject.trained_length
    if subject.most_positions:
        window = min(window, subject.most_positions)
    stride = min(spec["stride"] or max(1, window // 2), window)
    rows, splits = [], {}
    for name in spec["splits"]:
        split = subject.split(name)
        scored, unigram = score_documents(subject, split, window, stride, spec["max_tokens"])
        splits[name] = summary(scored, split, unigram)
        rows += [{"split": name, "document": number, **facts} for number, facts in enumerate(scored)]
    return {"window": window, "stride": stride, "splits": splits}, rows


def score_documents(
    subject: CausalLM, split: TokenSplit, window: int, stride: int, max_tokens: int | None
) -> tuple[list[dict], float]:
    """Tokens and total nats of each document, and the unigram entropy of all of them in nats per token.

    Whole documents are scored until they are `max_tokens` tokens, at least one.
    """
    rows, counts, batch_size = [], np.zeros(split.vocab_size, np.int64), subject.at_once(window)

    def pieces() -> Iterator[Window]:
        tokens = 0
        shown = {"unit": "documents", "total": None if max_tokens else split.documents}
        for number, ids in enumerate(progress(split.each_document(), what="scoring", **shown)):
            rows.append({"tokens": len(ids) - 1, "nats": 0.0})
            np.add.at(counts, ids[:-1], 1)
            yield from windows(number, ids, split.eos_id, window, stride)
            tokens += len(ids) - 1
            if max_tokens and tokens >= max_tokens:
                return

    for buffer in batched(pieces(), BUFFERED * batch_size):
        for batch in batches(buffer, batch_size):
            for (number, _, _), nats in zip(batch, losses(subject, batch), strict=True):
                rows[number]["nats"] += nats
    return rows, entropy(counts)


def windows(number: int, ids: np.ndarray, eos: int, window: int, stride: int) -> Iterator[Window]:
    """The windows of a document; every target counts in exactly one.

    `ids` ends with the end-of-sequence token; it is moved to the front, as the context of the first token.
    """
    stream = np.concatenate([[eos], ids[:-1]])
    scored = 0
    for start in range(0, max(1, len(stream) - 1), stride):
        piece = stream[start : start + window + 1]
        new = start + len(piece) - 1 - scored
        if new <= 0:
            return
        scored += new
        yield number, piece, new


def context(piece: Window) -> int:
    """How many of the first targets do not count: none in the first window of a document, the overlap in all others."""
    _, tokens, new = piece
    return len(tokens) - 1 - new


def batches(pieces: list[Window], size: int) -> Iterator[list[Window]]:
    """Batches of windows with one context and like lengths: the targets that count begin at one place in all rows."""
    pieces = sorted(pieces, key=lambda piece: (context(piece), -len(piece[1])))
    for _, alike in groupby(pieces, key=context):
        yield from batched(alike, size)


def losses(subject: CausalLM, batch: list[Window]) -> list[float]:
    """Total nats of the counted targets of each window of a batch with one context."""
    tokens = right_padded([piece for _, piece, _ in batch])
    first = context(batch[0])
    places = torch.arange(first, tokens.shape[1] - 1).expand(len(batch), -1)
    logits = subject.logits(tokens[:, :-1], at=places)
    targets = tokens[:, first + 1 :].to(logits.device)
    # Row by row: the cross entropy takes as much memory again as the logits that it is given.
    return [
        float(F.cross_entropy(row[:new], expected[:new], reduction="none").double().sum())
        for row, expected, (_, _, new) in zip(logits, targets, batch, strict=True)
    ]


def summary(documents: list[dict], split: TokenSplit, unigram: float) -> SplitScores:
    """Perplexities of a split; those per byte and per word need all of its documents, whose text is counted.

    Words are those that the data set publishes for the split, as the figures in the literature have it, or else what
    white space separates. Where that is longer than `LONGEST_WORD` characters on average, the script puts no spaces
    between words, as Chinese and Thai do not, and nothing is told of words.
    """
    tokens, nats = sum(row["tokens"] for row in documents), sum(row["nats"] for row in documents)
    result = {
        "documents": len(documents),
        "tokens": tokens,
        "loss": nats / tokens,
        "perplexity": exp(min(700.0, nats / tokens)),
        "unigram_loss": unigram,
        "bits_per_byte": None,
        "words": None,
        "words_from": None,
        "word_loss": None,
        "word_perplexity": None,
    }
    if len(documents) == split.documents:
        result["bits_per_byte"] = nats / log(2) / split.bytes
        words = split.published_words or (split.words if split.characters <= LONGEST_WORD * split.words else None)
        if words:
            result["words"] = words
            result["words_from"] = "published" if split.published_words else "counted"
            result["word_loss"] = nats / words
            result["word_perplexity"] = exp(nats / words) if nats / words < 700 else None
    return result


def entropy(counts: np.ndarray) -> float:
    """Nats per token of the best model without context: the entropy of the tokens' own frequencies [vocabulary]."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
