import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from seedbed.errors import SeedbedError, choices
from seedbed.files import hold_lock, read_json, read_jsonl, read_tensors, replacing, sha256_of, write_json


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_json(target, [1])
    with pytest.raises(RuntimeError), replacing(target) as partial:
        partial.write_text("half")
        assert read_json(target) == [1]
        raise RuntimeError
    assert read_json(target) == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_directory_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with replacing(tmp_path / "folder") as partial:
            partial.mkdir()
            (partial / name).touch()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["new"]


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    ).stdout.strip()
    host = socket.gethostname()
    left, living = (tmp_path / f".a.json.{host}-{pid}.partial" for pid in (dead, os.getppid()))
    left.mkdir()
    living.touch()
    write_json(tmp_path / "a.json", 1)
    assert not left.exists()
    assert living.exists()


def test_a_directory_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    lock = hold_lock(tmp_path / "results")
    code = f"from seedbed.files import hold_lock; hold_lock({str(tmp_path / 'results')!r})"
    refused = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "another workflow is writing there" in refused.stderr
    lock.close()
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_bad_json_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(SeedbedError, match=r"a\.json: not valid JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(SeedbedError, match="no such file"):
        read_json(tmp_path / "b.json")


def test_equal_values_have_equal_checksums() -> None:
    assert sha256_of({"a": 1, "b": [2]}) == sha256_of({"b": [2], "a": 1}) != sha256_of({"a": 1, "b": [3]})


def test_the_nearest_valid_name_is_offered() -> None:
    assert choices("tinny", ["tiny", "large"]) == "; did you mean 'tiny'?"
    assert choices("zzz", ["tiny", "large"]) == "; valid: tiny, large"
    assert choices("zzz", []) == "; none is defined"


@pytest.mark.parametrize(
    "failure",
    [OSError(28, "No space left on device"), RuntimeError("Error while serializing: I/O error (os error 28)")],
    ids=["of a write", "of a library in Rust"],
)
def test_a_full_disk_is_told_with_the_file(tmp_path: Path, failure: Exception) -> None:
    with pytest.raises(OSError) as caught, replacing(tmp_path / "a.json"):
        raise failure
    assert (caught.value.errno, caught.value.filename) == (28, str(tmp_path / "a.json"))
    assert caught.value.__cause__ is failure


@pytest.mark.parametrize("failure", [FileNotFoundError(2, "absent", "other.txt"), OSError("odd"), ValueError("odd")])
def test_other_failures_are_as_they_were(tmp_path: Path, failure: Exception) -> None:
    with pytest.raises(type(failure)) as caught, replacing(tmp_path / "a.json"):
        raise failure
    assert caught.value is failure


def test_a_directory_with_what_is_not_ours_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "corpus"
    target.mkdir()
    (target / "thesis.txt").write_text("years of work")
    with pytest.raises(SeedbedError, match="corpus: holds thesis.txt, which would be lost"):
        with replacing(target, r"shards|index\.json") as partial:
            partial.mkdir()
    assert (target / "thesis.txt").read_text() == "years of work"
    (target / "thesis.txt").rename(target / "index.json")
    (target / ".snakemake_timestamp").touch()
    with replacing(target, r"shards|index\.json") as partial:
        partial.mkdir()
    assert list(target.iterdir()) == []


def test_a_directory_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    with pytest.raises(SeedbedError, match="kept: is a directory; expected a file"):
        write_json(tmp_path / "kept", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("name", [".", "..", ""])
def test_the_working_directory_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "a").touch()
    monkeypatch.chdir(tmp_path / "project")
    with pytest.raises(SeedbedError, match="holds the working directory"):
        with replacing(name) as partial:
            partial.mkdir()
    assert (tmp_path / "project" / "a").exists()


def test_a_stranger_among_partial_files_is_left(tmp_path: Path) -> None:
    stranger = tmp_path / f".a.json.{socket.gethostname()}-abc.partial"
    stranger.touch()
    write_json(tmp_path / "a.json", 1)
    assert stranger.exists()


@pytest.mark.parametrize("read", [read_json, read_jsonl, read_tensors])
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (Path.mkdir, "found no regular file"),
        (os.mkfifo, "found no regular file"),
        (lambda path: path.symlink_to(path.name), "no such file"),
    ],
    ids=["directory", "pipe", "link to itself"],
)
def test_what_is_no_file_is_told(tmp_path: Path, read: Callable, make: Callable, told: str) -> None:
    make(path := tmp_path / "a")
    with pytest.raises(SeedbedError) as caught:
        read(path)
    assert str(caught.value) == f"{path}: {told}"


def test_a_mistake_found_while_writing_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(SeedbedError, match="b: no tokenizer"), replacing(tmp_path / "a"):
        raise SeedbedError("b: no tokenizer (Is a directory (os error 21))")
