from pathlib import Path

import pytest
import torch
from support import saved_model

from seedbed.config import Forgetting
from seedbed.evaluate.forgetting import measure
from seedbed.evaluate.subject import Subject
from seedbed.plan import dump

LENGTHS = [2, 4, 8, 16, 32]


def spec(**changes: object) -> dict:
    return dump(
        Forgetting.model_validate({"kind": "forgetting", "lengths": LENGTHS, "repeats": 8, "split": "train", **changes})
    )


class Copier(Subject):
    """Predicts what followed the last occurrence of the newest `match` tokens within `reach` tokens, else token 5."""

    reach, match = 40, 2

    @property
    def most_positions(self) -> int | None:
        return None

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*tokens.shape, 300)
        for row, ids in enumerate(tokens.tolist()):
            for place in range(len(ids)):
                logits[row, place, self.follower(ids[: place + 1])] = 1
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
    assert curve["zones"] == {"fine": 16, "coarse": 16}


def test_a_model_that_knows_nothing_has_amnesia_everywhere(copier: Copier) -> None:
    copier.reach = 0
    found, _ = measure(spec(), copier)
    for curve in found["curves"].values():
        assert {point["zone"] for point in curve["points"]} == {"amnesia"}
        assert curve["zones"] == {"fine": 0, "coarse": 0}


def test_rows_are_the_repeats_behind_the_means(model_folder: Path, tokens: Path) -> None:
    found, rows = measure(spec(), Subject(model_folder, tokens, 64))
    assert len(rows) == 2 * len(LENGTHS) * 8
    for text, curve in found["curves"].items():
        for point in curve["points"]:
            copies = [row["copy"] for row in rows if (row["text"], row["length"]) == (text, point["length"])]
            assert point["copy"]["mean"] == pytest.approx(sum(copies) / 8)
            assert point["copy"]["interval"][0] <= point["copy"]["mean"] <= point["copy"]["interval"][1]


def test_batches_do_not_change_the_result(model_folder: Path, tokens: Path) -> None:
    subject = Subject(model_folder, tokens, 64)
    assert measure(spec(batch_tokens=1), subject) == measure(spec(batch_tokens=10**6), subject)


def test_a_length_beyond_learned_positions_is_not_measurable(tokenizer: Path, tokens: Path, tmp_path: Path) -> None:
    subject = Subject(saved_model(tokenizer, tmp_path / "gpt2", "gpt2"), tokens, 64)
    points = measure(spec(), subject)[0]["curves"]["random"]["points"]
    assert [point["measurable"] for point in points] == [True, True, True, True, False]


def test_prompts_are_two_pieces_between_the_tokenizers_own_bos(model_folder: Path, tokens: Path) -> None:
    seen = []

    class Spy(Subject):
        def logits(self, prompts: torch.Tensor) -> torch.Tensor:
            seen.extend(prompts.tolist())
            return super().logits(prompts)

    measure(spec(lengths=[6], text=["order", "random"]), Spy(model_folder, tokens, 64))
    for copy, control in zip(seen[::2], seen[1::2], strict=True):
        assert copy[0] == copy[7] == control[0] == control[7] == 1
        assert copy[1:6] == copy[8:13] == control[8:13]
        assert control[1:7] != copy[1:7]
    assert not {0, 1, 2} & set(seen[-2][1:7])
