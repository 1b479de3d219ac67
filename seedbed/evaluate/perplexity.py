"""Perplexity by a sliding window over each document.

A document follows the end-of-sequence token, as in training, and every token of its text is predicted once. A window of
`window` inputs moves by `stride`, and only targets that no earlier window scored count, so that each has at least
`window - stride` tokens of context where the document has them.
"""

from collections.abc import Iterator
from math import exp, log

import numpy as np
import torch
import torch.nn.functional as F

from seedbed.evaluate.subject import Subject, right_padded
from seedbed.iterate import batched
from seedbed.tokens import TokenSplit


def measure(spec: dict, subject: Subject) -> tuple[dict, list[dict]]:
    window = spec["window"] or subject.trained_length
    if subject.most_positions:
        window = min(window, subject.most_positions)
    stride = min(spec["stride"] or max(1, window // 2), window)
    rows, splits = [], {}
    for name in spec["splits"]:
        split = subject.split(name)
        scored = score_documents(subject, split, window, stride, spec["batch_size"], spec["max_tokens"])
        documents = [{"split": name, "document": number, **facts} for number, facts in enumerate(scored)]
        splits[name] = summary(documents, split, complete=len(documents) == split.documents)
        rows += documents
    return {"window": window, "stride": stride, "splits": splits}, rows


def score_documents(
    subject: Subject, split: TokenSplit, window: int, stride: int, batch_size: int, max_tokens: int | None
) -> list[dict]:
    """Tokens and total nats of each document, of as many whole documents as `max_tokens` allows (at least one)."""
    documents, tokens = [], 0
    for ids in split.each_document():
        documents.append(ids)
        tokens += len(ids) - 1
        if max_tokens and tokens >= max_tokens:
            break
    nats = np.zeros(len(documents))
    pieces = [
        piece for number, ids in enumerate(documents) for piece in windows(number, ids, split.eos_id, window, stride)
    ]
    pieces.sort(key=lambda piece: -len(piece[1]))  # batches of like lengths
    for batch in batched(pieces, batch_size):
        for (number, _, _), loss in zip(batch, losses(subject, batch), strict=True):
            nats[number] += loss
    return [{"tokens": len(ids) - 1, "nats": float(total)} for ids, total in zip(documents, nats, strict=True)]


def windows(number: int, ids: np.ndarray, eos: int, window: int, stride: int) -> Iterator[tuple[int, np.ndarray, int]]:
    """Document number, tokens [inputs + 1] and how many of the last targets count, for each window of a document.

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


def losses(subject: Subject, batch: list[tuple[int, np.ndarray, int]]) -> list[float]:
    """Total nats of the counted targets of each window."""
    tokens = right_padded([piece for _, piece, _ in batch])
    logits = subject.logits(tokens[:, :-1])
    nats = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten().to(logits.device), reduction="none")
    nats = nats.view(len(batch), -1).double().cpu()
    ends = [len(piece) - 1 for _, piece, _ in batch]
    return [float(row[end - new : end].sum()) for row, end, (_, _, new) in zip(nats, ends, batch, strict=True)]


def summary(documents: list[dict], split: TokenSplit, complete: bool) -> dict:
    """Perplexities of a split; those per byte and per word need all of its documents, whose text is counted."""
    tokens, nats = sum(row["tokens"] for row in documents), sum(row["nats"] for row in documents)
    result = {
        "documents": len(documents),
        "tokens": tokens,
        "loss": nats / tokens,
        "perplexity": exp(min(700.0, nats / tokens)),
        "unigram_loss": unigram_entropy(split, len(documents)),
        "bits_per_byte": None,
        "word_loss": None,
        "word_perplexity": None,
    }
    if complete:
        result["bits_per_byte"] = nats / log(2) / split.bytes
        result["word_loss"] = nats / split.words
        # Chinese has few spaces, and so very long "words": beyond what a float holds only the loss is told.
        result["word_perplexity"] = exp(nats / split.words) if nats / split.words < 700 else None
    return result


def unigram_entropy(split: TokenSplit, documents: int) -> float:
    """Nats per token of the best model without context: the entropy of the scored tokens' own frequencies."""
    ids = split.read(0, int(split.document_ends[documents - 1]) + 1)
    counts = torch.bincount(torch.from_numpy(ids[ids != split.eos_id])).double()
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * shares.log()).sum())
