from pathlib import Path

import pytest

from seedbed.train import checkpoints


def save(root: Path, step: int, content: bytes = b"weights") -> Path:
    def write(folder: Path, tag: str) -> None:
        (folder / tag).mkdir()
        (folder / tag / "state.pt").write_bytes(content)

    checkpoints.save(root, step, write, {"seconds": 1.5}, leader=True, barrier=lambda: None)
    return checkpoints.folder_of(root, step)


def test_the_newest_is_found_with_its_facts(tmp_path: Path) -> None:
    save(tmp_path, 9)
    save(tmp_path, 10)
    found = checkpoints.newest(tmp_path, pytest.fail)
    assert (found["step"], found["seconds"]) == (10, 1.5)


def test_only_the_last_ones_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        save(tmp_path, step)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-00000003", "step-00000010"]


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    assert checkpoints.newest(tmp_path / "none", pytest.fail) is None


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete", "manifest", "empty manifest"])
def test_a_damaged_one_is_told_and_passed_over(tmp_path: Path, damage: str) -> None:
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    match damage:
        case "truncate":
            (newest / "state.pt").write_bytes(b"weight")
        case "flip":
            (newest / "state.pt").write_bytes(b"weightz")
        case "delete":
            (newest / "state.pt").unlink()
        case "manifest":
            (newest / "manifest.json").unlink()
        case "empty manifest":
            (newest / "manifest.json").write_text("")
    told = []
    assert checkpoints.newest(tmp_path, told.append)["step"] == 1
    assert len(told) == 1
    assert "step-00000002" in told[0]
    assert "passed over" in told[0]


def test_a_write_that_fails_leaves_no_checkpoint(tmp_path: Path) -> None:
    def failing(folder: Path, tag: str) -> None:
        (folder / tag).mkdir()
        (folder / tag / "state.pt").write_bytes(b"half")
        raise OSError("no space left")

    save(tmp_path, 1)
    with pytest.raises(OSError, match="no space"):
        checkpoints.save(tmp_path, 2, failing, {}, leader=True, barrier=lambda: None)
    assert checkpoints.newest(tmp_path, pytest.fail)["step"] == 1
    save(tmp_path, 2)
    assert checkpoints.newest(tmp_path, pytest.fail)["step"] == 2
