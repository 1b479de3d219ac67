from pathlib import Path

import numpy as np
import pytest
import torch
from support import of_type, saved_model

from seedbed.config.fields import dump
from seedbed.errors import SeedbedError
from seedbed.evaluate.forgetting.config import Forgetting
from seedbed.evaluate.forgetting.measure import Task, measure, pieces
from seedbed.evaluate.forgetting.result import Result
from seedbed.objectives.lm.subject import CausalLM

LENGTHS = [2, 4, 8, 16, 32]


def spec(**changes: object) -> dict:
    return dump(
        Forgetting.model_validate({"kind": "forgetting", "lengths": LENGTHS, "repeats": 8, "split": "train", **changes})
    )


class Copier(CausalLM):
    """Predicts what followed the last occurrence of the newest `match` tokens within `reach` tokens, else token 5."""

    reach, match = 40, 2

    @property
    def most_positions(self) -> int | None:
        return None

    def logits(self, tokens: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*at.shape, 300)
        for row, (ids, places) in enumerate(zip(tokens.tolist(), at.tolist(), strict=True)):
            for index, place in enumerate(places):
                logits[row, index, self.follower(ids[: place + 1])] = 1
        return logits

    def follower(self, seen: list[int]) -> int:
        newest = seen[-self.match :]
        for start in range(len(seen) - self.match - 1, max(-1, len(seen) - self.reach - 1), -1):
            if seen[start : start + self.match] == newest:
                return seen[start + self.match]
        return 5


@pytest.fixture
def copier(model_folder: Path, tokens: Path) -> Copier:
    return Copier(model_folder, tokens, trained_length=64)


def test_a_perfect_copier_remembers_within_its_reach_and_not_beyond(copier: Copier) -> None:
    found, _ = measure(spec(text=["random"]), copier)
    curve = found["curves"]["random"]
    assert [point["zone"] for point in curve["points"]] == ["fine"] * 5
    copier.reach = 20  # what was read 17 tokens ago is within, 33 is not
    found, _ = measure(spec(text=["random"]), copier)
    curve = found["curves"]["random"]
    assert [point["zone"] for point in curve["points"]] == ["fine", "fine", "fine", "fine", "amnesia"]
    assert [point["copy"]["mean"] for point in curve["points"]] == [1, 1, 1, 1, pytest.approx(0, abs=0.05)]
    assert [point["lm"]["mean"] for point in curve["points"]] == pytest.approx([0] * 5, abs=0.05)
    assert curve["zones"] == {"fine": 16, "coarse": 16, "effective": 17}
    assert [point["distance"] for point in curve["points"]] == [3, 5, 9, 17, 33]
    for point in curve["points"]:
        assert point["gain"]["mean"] == pytest.approx(point["copy"]["mean"] - point["lm"]["mean"])


def test_a_model_that_knows_nothing_has_amnesia_everywhere(copier: Copier) -> None:
    copier.reach = 0
    found, _ = measure(spec(), copier)
    for curve in found["curves"].values():
        assert {point["zone"] for point in curve["points"]} == {"amnesia"}
        assert curve["zones"] == {"fine": 0, "coarse": 0, "effective": 0}


def test_rows_are_the_repeats_behind_the_means(model_folder: Path, tokens: Path) -> None:
    found, rows = measure(spec(), CausalLM(model_folder, tokens, 64))
    of_type(found, Result)
    assert len(rows) == 2 * len(LENGTHS) * 8
    for text, curve in found["curves"].items():
        for point in curve["points"]:
            copies = [row["copy"] for row in rows if (row["text"], row["length"]) == (text, point["length"])]
            assert point["copy"]["mean"] == pytest.approx(sum(copies) / 8)
            assert point["copy"]["interval"][0] <= point["copy"]["mean"] <= point["copy"]["interval"][1]


def test_batches_do_not_change_the_result(model_folder: Path, tokens: Path) -> None:
    one, all_at_once = (CausalLM(model_folder, tokens, 64, batch_tokens) for batch_tokens in (1, 10**6))
    assert measure(spec(), one) == measure(spec(), all_at_once)


def test_a_length_beyond_learned_positions_is_not_measurable(tokenizer: Path, tokens: Path, tmp_path: Path) -> None:
    subject = CausalLM(saved_model(tokenizer, tmp_path / "gpt2", "gpt2"), tokens, 64)
    points = measure(spec(), subject)[0]["curves"]["random"]["points"]
    assert [point["measurable"] for point in points] == [True, True, True, True, False]


def test_a_prompt_may_fill_the_positions_to_the_last(tokenizer: Path, tokens: Path, tmp_path: Path) -> None:
    subject = CausalLM(saved_model(tokenizer, tmp_path / "gpt2", "gpt2"), tokens, 64)
    (point,) = measure(spec(lengths=[31], text=["random"]), subject)[0]["curves"]["random"]["points"]
    assert (point["measurable"], point["prompt_tokens"]) == (True, 63)
    (point,) = measure(spec(lengths=[9], shots=3, text=["random"]), subject)[0]["curves"]["random"]["points"]
    assert (point["measurable"], point["prompt_tokens"]) == (False, 82)


class Spy(CausalLM):
    """Keeps what it is asked, as rows of ids without the last one."""

    seen: list

    def logits(self, prompts: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        self.seen += prompts.tolist()
        return super().logits(prompts, at)


@pytest.fixture
def spy(model_folder: Path, tokens: Path) -> Spy:
    spy = Spy(model_folder, tokens, 64)
    spy.seen = []
    return spy


def test_prompts_are_two_pieces_between_the_tokenizers_own_bos(spy: Spy) -> None:
    found, _ = measure(spec(lengths=[6], text=["order", "random"]), spy)
    assert found["begin"] == {"id": 1, "token": "<|bos|>", "is": "bos"}
    for copy, control in zip(spy.seen[::2], spy.seen[1::2], strict=True):
        assert copy[0] == copy[7] == control[0] == control[7] == 1
        assert copy[1:6] == copy[8:13] == control[8:13]
        assert control[1:7] != copy[1:7]
    assert not {0, 1, 2} & set(spy.seen[-2][1:7])


def test_reversed_pieces_are_asked_backwards(spy: Spy) -> None:
    found, _ = measure(spec(lengths=[6], task="reverse", text=["random"]), spy)
    for copy, control in zip(spy.seen[::2], spy.seen[1::2], strict=True):
        assert copy[8:13] == control[8:13] == copy[6:1:-1]
        assert control[1:7] != copy[1:7]
    # The last three tokens of the answer were read 8, 10 and 12 tokens before.
    assert found["curves"]["random"]["points"][0]["distance"] == 10


@pytest.mark.parametrize("task", ["copy", "reverse"])
def test_demonstrations_are_other_pieces_that_are_solved(spy: Spy, task: str) -> None:
    measure(spec(lengths=[4], task=task, shots=2, text=["order"]), spy)
    step = 1 if task == "copy" else -1
    for copy, control in zip(spy.seen[::2], spy.seen[1::2], strict=True):
        assert copy[:22] == control[:22]
        for start in (0, 11):
            demonstration = copy[start : start + 11]
            assert demonstration[0] == demonstration[5] == 1
            assert demonstration[10] == 2
            assert demonstration[1:5] == demonstration[6:10][::step]
        assert copy[1:5] != copy[12:16] != copy[23:27]
        assert copy[23:27][::step][:3] == copy[28:31] == control[28:31]


@pytest.mark.parametrize("length", [1, 30])
def test_pieces_of_text_do_not_overlap(spy: Spy, length: int) -> None:
    class Numbered:
        """A stream in which every token is its place."""

        def __len__(self) -> int:
            return 5 * length + 7

        def read(self, start: int, stop: int) -> np.ndarray:
            return np.arange(start, stop)

    task, generator = Task(length, "copy", 3, 1, 2), np.random.default_rng(0)
    orders = set()
    for _ in range(200):
        found = pieces(spy, Numbered(), "order", task, generator)
        assert len(set(np.concatenate(found).tolist())) == 5 * length
        orders.add(tuple(np.argsort([piece[0] for piece in found])))
    assert len(orders) > 50  # which of them is asked is left to chance


class Reverser(Copier):
    """Answers backwards what was read between the last two begin tokens."""

    def follower(self, seen: list[int]) -> int:
        *_, first, second = [place for place, token in enumerate(seen) if token == 1] + [0] * (seen.count(1) < 2)
        place = second - (len(seen) - second)
        return seen[place] if place > first else 5


def test_reversing_is_what_is_scored(model_folder: Path, tokens: Path) -> None:
    reverser = Reverser(model_folder, tokens, 64)
    (reverse,) = measure(spec(lengths=[9], task="reverse", text=["random"]), reverser)[0]["curves"].values()
    assert reverse["zones"]["fine"] == 9
    (copy,) = measure(spec(lengths=[9], text=["random"]), reverser)[0]["curves"].values()
    assert copy["zones"]["fine"] == 0


@pytest.mark.parametrize("recurrence", [None, {"work_size": 8, "cache_size": 12}])
def test_batches_give_what_a_forward_for_each_prompt_gives(
    tokenizer: Path, tokens: Path, tmp_path: Path, recurrence: dict | None
) -> None:
    subject = Spy(saved_model(tokenizer, tmp_path / "model", recurrence=recurrence), tokens, 64)
    subject.seen = []
    found, rows = measure(spec(lengths=[7, 20]), subject)
    of_type(found, Result)
    prompts = iter(subject.seen)
    for row in rows:
        asked = (row["length"] + 1) // 2
        copy, control = next(prompts), next(prompts)
        piece = copy[1 : row["length"] + 1]
        for kind, ids in (("copy", copy), ("lm", control)):
            likeliest = CausalLM.logits(subject, torch.tensor([ids]))[0, -asked:].argmax(-1).tolist()
            right = [one == other for one, other in zip(likeliest, piece[-asked:], strict=True)]
            assert row[kind] == pytest.approx(sum(right) / asked)
    expected = {"trained_length": 64, "window": 64, "theoretical": None}
    assert found["reach"] == (expected if recurrence is None else expected | {"window": 20, "theoretical": 16})


def test_an_untrained_head_that_likes_all_tokens_alike_has_amnesia(model_folder: Path, tokens: Path) -> None:
    subject = CausalLM(model_folder, tokens, 64)
    torch.nn.init.zeros_(subject.model.lm_head.weight)
    found, _ = measure(spec(), subject)
    for curve in found["curves"].values():
        assert {point["zone"] for point in curve["points"]} == {"amnesia"}
        assert all(point["p"] == 1 for point in curve["points"])


def test_too_little_text_is_told(model_folder: Path, tokens: Path) -> None:
    with pytest.raises(SeedbedError, match=r"tokens are too few for 4 pieces of 99999"):
        measure(spec(lengths=[99999], shots=2), CausalLM(model_folder, tokens, 64))


def test_lengths_may_be_said_by_their_ends() -> None:
    assert spec(lengths={"first": 3, "last": 25})["lengths"] == [3, 6, 12, 24]
    assert spec(lengths={"first": 3, "last": 25, "step": 10})["lengths"] == [3, 13, 23]
