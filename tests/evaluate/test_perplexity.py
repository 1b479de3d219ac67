from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from support import saved_model

from seedbed.config import Perplexity
from seedbed.evaluate.perplexity import measure, windows
from seedbed.evaluate.subject import Subject
from seedbed.plan import dump


def spec(**changes: object) -> dict:
    return dump(Perplexity.model_validate({"kind": "perplexity", "splits": ["valid"], **changes}))


@pytest.mark.parametrize(
    ("length", "window", "stride"), [(50, 16, 8), (50, 16, 16), (50, 16, 5), (3, 16, 8), (2, 4, 4), (17, 16, 8)]
)
def test_every_token_is_scored_once_with_its_context(length: int, window: int, stride: int) -> None:
    ids = np.arange(10, 10 + length)  # the last stands for the end-of-sequence token
    scored = []
    for _, piece, new in windows(0, ids, 99, window, stride):
        assert len(piece) <= window + 1
        targets = piece[1:][len(piece) - 1 - new :]
        for target in targets:
            context = list(piece).index(target)
            assert context >= min(window - stride, target - 10) + 1 or context == target - 10 + 1
        scored += list(targets)
    assert scored == list(ids[:-1])


def one_token_at_a_time(subject: Subject, window: int, stride: int) -> tuple[float, int]:
    """Total nats by one forward pass per token with the context that its window gives it."""
    total, tokens = 0.0, 0
    split = subject.split("valid")
    for ids in split.each_document():
        stream = [split.eos_id, *ids[:-1].tolist()]
        for target in range(1, len(stream)):
            # The first window that reaches the target starts at the smallest multiple of the stride within reach.
            start = max(0, -(-(target - window) // stride)) * stride
            logits = subject.logits(torch.tensor([stream[start:target]]))[0, -1]
            total -= float(logits.double().log_softmax(-1)[stream[target]])
            tokens += 1
    return total, tokens


@pytest.mark.parametrize(("window", "stride"), [(16, 8), (20, 7), (16, 16)])
def test_it_equals_one_forward_per_token(model_folder: Path, tokens: Path, window: int, stride: int) -> None:
    subject = Subject(model_folder, tokens, trained_length=32)
    found, rows = measure(spec(window=window, stride=stride), subject)
    total, count = one_token_at_a_time(subject, window, stride)
    scores, split = found["splits"]["valid"], subject.split("valid")
    assert scores["tokens"] == count == sum(row["tokens"] for row in rows)
    assert scores["loss"] == pytest.approx(total / count, rel=1e-5)
    assert scores["perplexity"] == pytest.approx(np.exp(total / count), rel=1e-4)
    assert scores["bits_per_byte"] == pytest.approx(total / log(2) / split.bytes, rel=1e-5)
    assert scores["word_perplexity"] is None or scores["word_perplexity"] == pytest.approx(
        np.exp(total / split.words), rel=1e-3
    )


def test_the_unigram_loss_is_the_entropy_of_the_scored_tokens(model_folder: Path, tokens: Path) -> None:
    subject = Subject(model_folder, tokens, trained_length=32)
    found, _ = measure(spec(), subject)
    ids = np.concatenate([document[:-1] for document in subject.split("valid").each_document()])
    _, counts = np.unique(ids, return_counts=True)
    shares = counts / counts.sum()
    assert found["splits"]["valid"]["unigram_loss"] == pytest.approx(-(shares * np.log(shares)).sum())


def test_windows_default_to_the_trained_length_and_keep_to_learned_positions(
    tokenizer: Path, tokens: Path, tmp_path: Path
) -> None:
    gpt2 = Subject(saved_model(tokenizer, tmp_path / "gpt2", "gpt2"), tokens, trained_length=100)
    found, _ = measure(spec(), gpt2)
    assert (found["window"], found["stride"]) == (64, 32)


def test_a_limit_takes_whole_documents_and_says_nothing_per_byte(model_folder: Path, tokens: Path) -> None:
    subject = Subject(model_folder, tokens, trained_length=32)
    found, rows = measure(spec(max_tokens=1), subject)
    assert found["splits"]["valid"]["documents"] == len(rows) == 1
    assert found["splits"]["valid"]["bits_per_byte"] is None
