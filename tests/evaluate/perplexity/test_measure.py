import shutil
import tracemalloc
from collections.abc import Iterator
from math import exp, log
from pathlib import Path

import numpy as np
import pytest
import torch
from support import change, of_type, saved_model
from transformers import AutoTokenizer

from seedbed.config.fields import dump
from seedbed.data.corpus import read_documents, shards
from seedbed.evaluate.perplexity import measure as perplexity
from seedbed.evaluate.perplexity.config import Perplexity
from seedbed.evaluate.perplexity.measure import measure, score_documents, windows
from seedbed.evaluate.perplexity.result import Result
from seedbed.files import read_json, write_json
from seedbed.objectives.lm.subject import CausalLM


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


def encoded_texts(corpus: Path, tokenizer: Path) -> tuple[list[str], list[list[int]]]:
    """The documents of the valid split, and their tokens after the end-of-sequence token."""
    encode = AutoTokenizer.from_pretrained(tokenizer)
    texts = [text for shard in shards(corpus, "valid") for text in read_documents(shard)]
    return texts, [[encode.eos_token_id, *encode(text).input_ids] for text in texts]


def one_token_at_a_time(subject: CausalLM, stream: list[int], window: int, stride: int) -> float:
    """Nats of a document, each token by a forward pass of its own over the context that its window gives it."""
    total = 0.0
    for target in range(1, len(stream)):
        # The first window that reaches the target starts at the smallest multiple of the stride within reach.
        start = max(0, -(-(target - window) // stride)) * stride
        logits = subject.logits(torch.tensor([stream[start:target]]))[0, -1]
        total -= float(logits.double().log_softmax(-1)[stream[target]])
    return total


@pytest.mark.parametrize(("window", "stride"), [(16, 8), (20, 7), (16, 16), (16, 1), (450, 225), (2000, 1000)])
def test_it_equals_one_forward_per_token(
    model_folder: Path, corpus: Path, tokenizer: Path, tokens: Path, window: int, stride: int
) -> None:
    subject = CausalLM(model_folder, tokens, trained_length=32)
    found, rows = measure(spec(window=window, stride=stride, max_tokens=1300), subject)
    _, streams = encoded_texts(corpus, tokenizer)
    streams = streams[: len(rows)]
    lengths = [len(stream) - 1 for stream in streams]
    assert [row["tokens"] for row in rows] == lengths
    assert [row["document"] for row in rows] == list(range(len(rows)))
    assert sum(lengths[:-1]) < 1300 <= sum(lengths)
    nats = [one_token_at_a_time(subject, stream, window, stride) for stream in streams]
    assert [row["nats"] for row in rows] == pytest.approx(nats, rel=1e-5)
    scores, count = found["splits"]["valid"], sum(row["tokens"] for row in rows)
    assert scores["tokens"] == count
    assert scores["loss"] == pytest.approx(sum(nats) / count, rel=1e-5)
    assert scores["perplexity"] == pytest.approx(np.exp(sum(nats) / count), rel=1e-4)


def test_bytes_are_those_of_the_texts(model_folder: Path, corpus: Path, tokenizer: Path, tokens: Path) -> None:
    found, rows = measure(spec(), CausalLM(model_folder, tokens, trained_length=32))
    of_type(found, Result)
    texts, _ = encoded_texts(corpus, tokenizer)
    nats, scores = sum(row["nats"] for row in rows), found["splits"]["valid"]
    assert scores["bits_per_byte"] == pytest.approx(nats / log(2) / sum(len(text.encode()) for text in texts))
    assert scores["words"] is None  # the text is Chinese


def with_counts(tokens: Path, folder: Path, **counts: int) -> Path:
    """The same tokens of a text whose valid split has other counts."""
    shutil.copytree(tokens, folder)
    splits = read_json(tokens / "index.json")["splits"]
    splits["valid"] |= counts
    change(folder / "index.json", splits=splits)
    return folder


def test_words_that_the_data_set_counts_are_what_it_divides_by(
    model_folder: Path, tokens: Path, tmp_path: Path
) -> None:
    published = with_counts(tokens, tmp_path / "tokens", published_words=4321, characters=43210000)
    subject = CausalLM(model_folder, published, trained_length=32)
    found, rows = measure(spec(), subject)
    nats, scores = sum(row["nats"] for row in rows), found["splits"]["valid"]
    assert (scores["words"], scores["words_from"]) == (4321, "published")
    assert scores["word_loss"] == pytest.approx(nats / 4321)
    assert scores["word_perplexity"] == pytest.approx(np.exp(nats / 4321))
    part = measure(spec(max_tokens=1), subject)[0]["splits"]["valid"]
    assert part["words"] is part["words_from"] is part["word_loss"] is part["word_perplexity"] is None


@pytest.mark.parametrize(("characters", "told"), [(15_000, True), (15_001, False)])
def test_words_are_what_white_space_separates_where_it_does(
    model_folder: Path, tokens: Path, tmp_path: Path, characters: int, told: bool
) -> None:
    text = with_counts(tokens, tmp_path / "tokens", characters=characters, words=1000)
    found, rows = measure(spec(), CausalLM(model_folder, text, trained_length=32))
    of_type(found, Result)
    nats, scores = sum(row["nats"] for row in rows), found["splits"]["valid"]
    expected = {"words": 1000, "words_from": "counted", "word_loss": nats / 1000, "word_perplexity": exp(nats / 1000)}
    assert nats / 1000 < 700
    assert {key: scores[key] for key in expected} == (pytest.approx(expected) if told else dict.fromkeys(expected))


@pytest.mark.parametrize(("window", "stride"), [(32, 16), (20, 7), (24, 24)])
@pytest.mark.parametrize("memory", [{"work_size": 8, "cache_size": 8}, {"work_size": 5, "cache_size": 11}])
def test_a_recurrent_model_reads_each_window_in_its_segments(
    tokenizer: Path, tokens: Path, tmp_path: Path, memory: dict, window: int, stride: int
) -> None:
    folder = saved_model(tokenizer, tmp_path / "model")
    write_json(folder / "config.json", read_json(folder / "config.json") | {"recurrence": memory})
    subject = CausalLM(folder, tokens, trained_length=32)
    _, rows = measure(spec(window=window, stride=stride, max_tokens=1300), subject)
    split, expected = subject.split("valid"), []
    for ids, _ in zip(split.each_document(), rows, strict=False):
        stream, nats, first = [split.eos_id, *ids[:-1].tolist()], 0.0, 1
        while first < len(stream):
            start = max(0, -(-(first - window) // stride)) * stride
            inputs = stream[start : min(start + window, len(stream) - 1)]
            scores = subject.logits(torch.tensor([inputs]))[0].double().log_softmax(-1)
            for target in range(first, start + len(inputs) + 1):
                nats -= float(scores[target - start - 1, stream[target]])
            first = start + len(inputs) + 1
        expected.append(nats)
    assert [row["nats"] for row in rows] == pytest.approx(expected, rel=1e-5)
    plain = measure(
        spec(window=window, stride=stride, max_tokens=1300),
        CausalLM(saved_model(tokenizer, tmp_path / "p"), tokens, 32),
    )[1]
    assert [row["nats"] for row in rows] != pytest.approx([row["nats"] for row in plain], rel=1e-5)


# --- in bounded memory -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_tokens", [1, 100, 10**5])
@pytest.mark.parametrize("buffered", [1, 64])
def test_how_windows_are_put_together_changes_nothing(
    model_folder: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch, batch_tokens: int, buffered: int
) -> None:
    subject = CausalLM(model_folder, tokens, trained_length=32)
    _, expected = measure(spec(), subject)
    monkeypatch.setattr(perplexity, "BUFFERED", buffered)
    _, rows = measure(spec(), CausalLM(model_folder, tokens, 32, batch_tokens))
    for row, other in zip(rows, expected, strict=True):
        assert row == other | {"nats": pytest.approx(other["nats"], rel=1e-6)}


class Uniform:
    """A model that thinks every token of a vocabulary of 50 as likely, and notes what it is asked."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.asked: list[tuple[torch.Tensor, torch.Tensor]] = []

    def at_once(self, length: int) -> int:
        return self.batch_size

    def logits(self, tokens: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        self.asked.append((tokens, at))
        return torch.zeros(*at.shape, 50)


class Made:
    """A split of documents that are made while they are read."""

    eos_id, vocab_size = 2, 50

    def __init__(self, lengths: list[int]) -> None:
        self.lengths, self.documents, self.read = lengths, len(lengths), 0

    def each_document(self) -> Iterator[np.ndarray]:
        for length in self.lengths:
            self.read += 1
            yield np.append(np.arange(length) % 40 + 3, 2)


def test_what_is_kept_of_a_document_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perplexity, "BUFFERED", 2)

    class Forgetful(Uniform):
        def logits(self, tokens: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
            return torch.zeros(*at.shape, 50)

    def peak(documents: int) -> int:
        tracemalloc.start()
        rows, _ = score_documents(Forgetful(4), Made([1000] * documents), 512, 256, None)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert [row["nats"] for row in rows] == pytest.approx([1000 * log(50)] * documents)
        return found

    peak(20)
    # A document is 8000 bytes, its row a mapping of two numbers.
    assert peak(2200) - peak(200) < 2000 * 500


def test_documents_are_read_while_others_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perplexity, "BUFFERED", 2)
    split, reads = Made([100] * 50), []

    class Watching(Uniform):
        def logits(self, tokens: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
            reads.append(split.read)
            return super().logits(tokens, at)

    score_documents(Watching(4), split, 64, 32, None)
    # Each has three windows, and eight windows are kept.
    assert reads[0] == 3 and reads[-1] == 50


@pytest.mark.parametrize(("window", "stride"), [(64, 32), (64, 10), (64, 64)])
def test_only_the_places_that_count_are_asked_for(window: int, stride: int) -> None:
    subject, lengths = Uniform(8), [30 + 13 * number % 400 for number in range(300)]
    rows, _ = score_documents(subject, Made(lengths), window, stride, None)
    assert [row["tokens"] for row in rows] == lengths
    for tokens, at in subject.asked:
        assert len(tokens) == len(at) <= 8
        assert tokens.shape[1] <= window and int(at.max()) == tokens.shape[1] - 1
        assert at.shape[1] <= stride or (at[:, 0] == 0).all()
    asked = sum(at.numel() for _, at in subject.asked)
    assert sum(lengths) <= asked < 1.1 * sum(lengths)
    read = sum(tokens.numel() for tokens, _ in subject.asked)
    least = sum(
        len(piece) - 1 for length in lengths for _, piece, _ in windows(0, np.arange(length + 1), 2, window, stride)
    )
    assert least <= read < 1.1 * least


# --- what else is told -----------------------------------------------------------------------------------------------


def test_the_unigram_loss_is_the_entropy_of_the_scored_tokens(model_folder: Path, tokens: Path) -> None:
    subject = CausalLM(model_folder, tokens, trained_length=32)
    for limit in (None, 1300):
        found, rows = measure(spec(max_tokens=limit), subject)
        documents = list(subject.split("valid").each_document())[: len(rows)]
        _, counts = np.unique(np.concatenate([ids[:-1] for ids in documents]), return_counts=True)
        shares = counts / counts.sum()
        assert found["splits"]["valid"]["unigram_loss"] == pytest.approx(-(shares * np.log(shares)).sum())


def test_windows_default_to_the_trained_length_and_keep_to_learned_positions(
    tokenizer: Path, tokens: Path, tmp_path: Path
) -> None:
    gpt2 = CausalLM(saved_model(tokenizer, tmp_path / "gpt2", "gpt2"), tokens, trained_length=100)
    found, _ = measure(spec(), gpt2)
    assert (found["window"], found["stride"]) == (64, 32)


def test_a_limit_takes_whole_documents_and_says_nothing_per_byte(model_folder: Path, tokens: Path) -> None:
    subject = CausalLM(model_folder, tokens, trained_length=32)
    found, rows = measure(spec(max_tokens=1), subject)
    of_type(found, Result)
    assert found["splits"]["valid"]["documents"] == len(rows) == 1
    assert found["splits"]["valid"]["bits_per_byte"] is None
