import json
from pathlib import Path
from threading import Event

import pytest
import torch

from seedbed.train.checkpoints import Checkpoint, Saver, each_intact, folder_of
from seedbed.train.schedules import plateau_start
from seedbed.train.spikes import watch_start

LINE = json.dumps({"step": 1, "seconds": 1.0, "loss": 2.0, "lr": 0.1, "grad_norm": 1.0}) + "\n"
FACTS = {
    "identity": "i",
    "precision": "fp32",
    "begun": 0,
    "seconds": 1.5,
    "watch": watch_start(),
    "plateau": plateau_start(),
    "interval": {"step": 1, "seconds": 1.0, "losses": [[]], "grad_norm": 0.5},
}


def save(root: Path, step: int, value: float = 1.0, keep: int = 2, kept: set[int] = frozenset()) -> Path:
    saver = Saver(root, keep)
    saver.save(step, {"weights": {"w": torch.full((3,), value)}, "rows": {}}, FACTS, LINE, kept)
    saver.close()
    return folder_of(root, step)


def newest(root: Path, report=pytest.fail) -> Checkpoint | None:
    return next(each_intact(root, report), None)


def test_the_newest_is_found_with_its_facts_and_tensors(tmp_path: Path) -> None:
    save(tmp_path, 9)
    save(tmp_path, 10, 2.0)
    found = newest(tmp_path)
    assert (found.step, found.manifest["seconds"]) == (10, 1.5)
    assert found.tensors("weights")["w"].tolist() == [2.0, 2.0, 2.0]
    assert found.tensors("rows") == {}


def test_only_the_last_ones_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        save(tmp_path, step)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-00000003", "step-00000010"]


def test_those_that_others_need_are_kept_beside_the_last_ones(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        save(tmp_path, step, keep=1, kept={2})
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-00000002", "step-00000004"]


def test_later_ones_are_forgotten(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step, keep=3)
    Saver(tmp_path).forget_after(1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    assert newest(tmp_path / "none") is None


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete", "manifest", "empty manifest"])
def test_a_damaged_one_is_told_and_passed_over(tmp_path: Path, damage: str) -> None:
    save(tmp_path, 1)
    last = save(tmp_path, 2)
    state = last / "weights.safetensors"
    match damage:
        case "truncate":
            state.write_bytes(state.read_bytes()[:-1])
        case "flip":
            state.write_bytes(state.read_bytes()[:-1] + b"z")
        case "delete":
            state.unlink()
        case "manifest":
            (last / "manifest.json").unlink()
        case "empty manifest":
            (last / "manifest.json").write_text("")
    told = []
    assert newest(tmp_path, told.append).step == 1
    assert len(told) == 1
    assert "step-00000002" in told[0]
    assert "skipped" in told[0]


def test_a_write_that_fails_is_told_and_leaves_no_checkpoint(tmp_path: Path, monkeypatch) -> None:
    save(tmp_path, 1)
    with monkeypatch.context() as broken:
        broken.setattr("seedbed.files.flush", lambda path: (_ for _ in ()).throw(OSError(28, "No space")))
        with pytest.raises(OSError, match="No space"):
            save(tmp_path, 2)
    assert newest(tmp_path).step == 1
    save(tmp_path, 2)
    assert newest(tmp_path).step == 2


def test_training_does_not_wait_for_the_disk(tmp_path: Path, monkeypatch) -> None:
    free = Event()
    monkeypatch.setattr("seedbed.files.flush", lambda path: free.wait(60))
    saver = Saver(tmp_path)
    saver.save(1, {"weights": {"w": torch.ones(3)}}, FACTS, LINE)
    assert newest(tmp_path) is None
    free.set()
    saver.close()
    assert newest(tmp_path).step == 1
