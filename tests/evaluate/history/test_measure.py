from math import exp, log
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support import of_type, saved_model

from seedbed.config.fields import dump
from seedbed.config.load import check
from seedbed.data.tokens import TokenSplit
from seedbed.errors import SeedbedError
from seedbed.evaluate.history import measure as history
from seedbed.evaluate.history.config import History
from seedbed.evaluate.history.measure import bins, measure, places
from seedbed.evaluate.history.result import Result
from seedbed.evaluate.intervals import bootstrap_mean
from seedbed.files import read_json, write_json
from seedbed.models import recurrence
from seedbed.models.recurrence import SegmentCache
from seedbed.objectives.lm.subject import CausalLM

PERIOD = 20
SURE = 9.0  # the logit of what the copier predicts; of all else it is 0


def spec(**changes: object) -> dict:
    return dump(History.model_validate({"kind": "history", "split": "train", "pieces": 8, **changes}))


class Text(SimpleNamespace):
    """A split of the given stream."""

    def __len__(self) -> int:
        return len(self.stream)

    def read(self, start: int, stop: int) -> np.ndarray:
        assert 0 <= start < stop <= len(self.stream)
        return self.stream[start:stop]


class Copier(CausalLM):
    """Predicts what followed the last occurrence of the newest token, else token 5, of a text that repeats itself."""

    def split(self, name: str) -> Text:
        return Text(name=name, stream=np.tile(np.arange(100, 100 + PERIOD), 50))

    def logits(self, tokens: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*at.shape, 300)
        for row, (ids, asked) in enumerate(zip(tokens.tolist(), at.tolist(), strict=True)):
            for number, place in enumerate(asked):
                logits[row, number, self.follower(ids[: place + 1])] = SURE
        return logits

    def follower(self, seen: list[int]) -> int:
        before = [place for place, token in enumerate(seen[:-1]) if token == seen[-1]]
        return seen[before[-1] + 1] if before else 5


class Spy(CausalLM):
    """A subject that keeps what it was asked."""

    def logits(self, tokens: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        self.__dict__.setdefault("seen", []).append((tokens, at))
        return super().logits(tokens, at=at)


@pytest.fixture
def folder(tokenizer: Path, tmp_path: Path) -> Path:
    """A model with weights large enough for what it has read to matter."""
    return saved_model(tokenizer, tmp_path / "model", initializer_range=0.3)


# --- what it measures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "first"), [(PERIOD + 1, 0), (PERIOD, 1), (10, 11), (1, 20)])
def test_a_copier_gains_where_only_history_has_what_it_copies(
    model_folder: Path, tokens: Path, before: int, first: int
) -> None:
    """With history it is right from position `first` on, without it from the second occurrence in the piece on."""
    result, rows = measure(spec(length=32, history=before), Copier(model_folder, tokens, 64))
    assert [row["accuracy_with"] for row in rows] == [0.0] * first + [1.0] * (32 - first)
    assert [row["accuracy_without"] for row in rows] == [0.0] * 21 + [1.0] * 11
    gains = [SURE if first <= position < 21 else 0.0 for position in range(32)]
    assert [row["loss_without"] - row["loss_with"] for row in rows] == pytest.approx(gains, abs=1e-5)
    assert rows[31]["loss_with"] == pytest.approx(log(299 + exp(SURE)) - SURE, abs=1e-5)
    assert rows[0]["loss_without"] == pytest.approx(log(299 + exp(SURE)), abs=1e-5)
    assert [(one["from"], one["to"]) for one in result["positions"]] == [
        (0, 1), (1, 2), (2, 4), (4, 8), (8, 16), (16, 32)
    ]  # fmt: skip
    for one in result["positions"]:
        expected = float(np.mean(gains[one["from"] : one["to"]]))
        gain = one["gain"]
        assert gain["loss"] == pytest.approx(expected, abs=1e-5)
        assert gain["interval"] == pytest.approx((expected, expected), abs=1e-5)
        assert gain["accuracy"] == pytest.approx(expected / SURE)
        assert gain["accuracy_interval"] == pytest.approx((expected / SURE, expected / SURE))
    gain = result["overall"]["gain"]
    assert gain["loss"] == pytest.approx(np.mean(gains), abs=1e-5)
    assert gain["accuracy"] == pytest.approx(np.mean(gains) / SURE)
    assert gain["p"] < 0.05


def test_a_model_that_guesses_gains_nothing(model_folder: Path, tokens: Path) -> None:
    class Uniform(CausalLM):
        def logits(self, tokens: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
            return torch.zeros(*at.shape, 300)

    result, rows = measure(spec(), Uniform(model_folder, tokens, 32))
    assert all(row["loss_with"] == row["loss_without"] == pytest.approx(log(300)) for row in rows)
    gain = {"loss": 0, "interval": (0, 0), "p": 1, "accuracy": 0, "accuracy_interval": (0, 0)}
    assert all(one["gain"] == gain for one in [result["overall"], *result["positions"]])


@pytest.mark.parametrize("memory", [None, {"work_size": 5, "cache_size": 4}])
def test_rows_are_those_of_a_forward_for_each_piece(folder: Path, tokens: Path, memory: dict | None) -> None:
    write_json(folder / "config.json", read_json(folder / "config.json") | {"recurrence": memory})
    subject = CausalLM(folder, tokens, 32, batch_tokens=50)
    result, rows = measure(spec(length=7, history=11), subject)
    of_type(result, Result)
    split = subject.split("train")
    starts = places(split, 11, 7, 8, np.random.default_rng(0))
    pieces = [split.read(start, start + 7).tolist() for start in starts]
    before = {"with": [split.read(start - 11, start).tolist() for start in starts], "without": [[1]] * 8}
    nats = {}
    for kind, contexts in before.items():
        logits = [forward(subject, ids + piece[:-1])[-7:] for ids, piece in zip(contexts, pieces, strict=True)]
        losses = -torch.stack(logits).log_softmax(-1).gather(2, torch.tensor(pieces)[..., None])[..., 0]
        hits = (torch.stack(logits).argmax(-1) == torch.tensor(pieces)).double()
        nats[kind] = losses.double().numpy()
        assert [row[f"loss_{kind}"] for row in rows] == pytest.approx(losses.mean(0).tolist(), abs=1e-5)
        assert [row[f"accuracy_{kind}"] for row in rows] == pytest.approx(hits.mean(0).tolist())
        assert result["overall"][kind] == pytest.approx(
            {"loss": float(losses.mean()), "accuracy": float(hits.mean())}, abs=1e-5
        )
    saved = nats["without"] - nats["with"]
    assert result["overall"]["gain"]["loss"] == pytest.approx(saved.mean(), abs=1e-5)
    last = result["positions"][-1]
    assert (last["from"], last["to"]) == (4, 7)
    assert last["gain"]["loss"] == pytest.approx(saved[:, 4:].mean(), abs=1e-5)
    assert last["gain"]["interval"] == pytest.approx(bootstrap_mean(saved[:, 4:].mean(1)), abs=1e-5)


@torch.no_grad()
def forward(subject: CausalLM, ids: list[int]) -> torch.Tensor:
    """Logits [length, vocabulary] of one input."""
    if subject.memory:
        cache = SegmentCache(subject.memory["cache_size"])
        return recurrence.logits(subject.model, torch.tensor([ids]), subject.memory["work_size"], cache)[0]
    return subject.model(torch.tensor([ids])).logits[0]


def test_batches_do_not_change_the_result(folder: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Spy(folder, tokens, 32, batch_tokens=10**6)
    result, rows = measure(spec(), subject)
    of_type(result, Result)
    assert [tokens.shape for tokens, _ in subject.seen] == [(8, 31), (8, 16)]
    for subject.batch_tokens, most, shapes in (
        (1, history.MOST_LOGITS, [(1, 31)] * 8 + [(1, 16)] * 8),
        (100, history.MOST_LOGITS, [(3, 31)] * 2 + [(2, 31), (5, 16), (3, 16)]),
        (10**6, 4 * 16 * 300, [(4, 31)] * 2 + [(4, 16)] * 2),
    ):
        subject.seen.clear()
        monkeypatch.setattr(history, "MOST_LOGITS", most)
        other, other_rows = measure(spec(), subject)
        assert [tokens.shape for tokens, _ in subject.seen] == shapes
        assert all(at.shape == (len(tokens), 16) for tokens, at in subject.seen)
        assert other_rows == [pytest.approx(row, abs=1e-5) for row in rows]
        assert other["overall"]["gain"]["interval"] == pytest.approx(result["overall"]["gain"]["interval"], abs=1e-5)


def test_the_result_says_how_it_was_measured(folder: Path, tokens: Path) -> None:
    result, rows = measure(spec(), CausalLM(folder, tokens, 33))
    assert (result["length"], result["history"], result["pieces"], result["overlapping"]) == (16, 17, 8, False)
    assert result["begin"] == {"id": 1, "token": "<|bos|>", "is": "bos"}
    assert [row["position"] for row in rows] == list(range(16))
    assert measure(spec(), CausalLM(folder, tokens, 33)) == (result, rows)
    assert measure(spec(seed=1), CausalLM(folder, tokens, 33))[1] != rows
    result, _ = measure(spec(length=10), CausalLM(folder, tokens, 33))
    assert (result["length"], result["history"]) == (10, 23)


# --- the pieces ------------------------------------------------------------------------------------------------------


def drawn(tokens: int, before: int, length: int, pieces: int, seed: int = 0) -> list[int]:
    stream = Text(name="text", stream=np.arange(tokens))
    return places(stream, before, length, pieces, np.random.default_rng(seed))


def test_pieces_lie_apart_while_there_is_room() -> None:
    assert drawn(7 + 5 * 6, 7, 5, 6) == [7, 12, 17, 22, 27, 32]
    many = drawn(100_000, 7, 5, 500)
    assert min(np.diff(many)) >= 5
    assert all(any(start // 10_000 == tenth for start in many) for tenth in range(10))
    assert many != drawn(100_000, 7, 5, 500, seed=1)


def test_pieces_overlap_before_one_comes_twice() -> None:
    assert drawn(7 + 5 + 5, 7, 5, 6) == [7, 8, 9, 10, 11, 12]
    twice = drawn(7 + 5 + 4, 7, 5, 6)
    assert len(twice) == 6 and set(twice) <= {7, 8, 9, 10, 11}
    assert drawn(7 + 5, 7, 5, 6) == [7] * 6


def test_pieces_that_overlap_are_told(model_folder: Path, tokens: Path) -> None:
    result, _ = measure(spec(length=400, history=400, pieces=6), Copier(model_folder, tokens, 64))
    assert result["overlapping"]
    result, _ = measure(spec(length=160, history=40, pieces=6), Copier(model_folder, tokens, 64))
    assert not result["overlapping"]


@pytest.mark.parametrize(("length", "edges"), [(1, [0, 1]), (2, [0, 1, 2]), (4, [0, 1, 2, 4]), (5, [0, 1, 2, 4, 5])])
def test_bins_double_up_to_the_length(length: int, edges: list[int]) -> None:
    assert bins(length) == list(zip(edges, edges[1:], strict=False))


# --- what does not fit -----------------------------------------------------------------------------------------------


def told(subject: CausalLM, **changes: object) -> str:
    with pytest.raises(SeedbedError) as caught:
        measure(spec(**changes), subject)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_learned_positions_are_not_left(tokenizer: Path, tokens: Path, tmp_path: Path) -> None:
    subject = CausalLM(saved_model(tokenizer, tmp_path / "gpt2", "gpt2"), tokens, 64)
    assert "history 33 + length 32 are 65 tokens; expected at most the 64" in told(subject, length=32, history=33)
    assert "history 1 + length 64 are 65 tokens" in told(subject, length=64, history=1)
    measure(spec(length=32, history=32), subject)


def test_a_split_too_short_for_one_piece_is_told(model_folder: Path, tokens: Path) -> None:
    subject = CausalLM(model_folder, tokens, 32)
    length = len(TokenSplit(tokens, "test"))
    message = told(subject, split="test", length=length, history=1)
    assert f"test: {length} tokens are too few for a piece of {length} after a history of 1" in message


def test_a_length_that_leaves_no_history_is_told(model_folder: Path, tokens: Path) -> None:
    subject = CausalLM(model_folder, tokens, 32)
    assert "a piece of 32 leaves no room for history in the 32 tokens" in told(subject, length=32)
    measure(spec(length=32, history=5), subject)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"history": 0}, "history: expected a value greater than or equal to 1; found 0"),
        ({"length": 0}, "length: expected a value greater than or equal to 1; found 0"),
        ({"pieces": 5}, "pieces: expected a value greater than or equal to 6; found 5"),
        ({"split": "tst"}, "split: found 'tst'; did you mean 'test'?"),
        ({"window": 5}, "window: unknown key"),
    ],
)
def test_a_wrong_key_is_told_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SeedbedError) as caught:
        check({"evaluations": {"far": {"kind": "history"} | changes}})
    assert str(caught.value).startswith(f"config: evaluations.far.{message}")
