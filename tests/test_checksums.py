"""Files that are what was written down, and how often their bytes are hashed."""

import os
from pathlib import Path

import pytest

from seedbed import checksums
from seedbed.checksums import described, described_files, how_often, note_of, sha256, verify, verify_files
from seedbed.config.fields import without
from seedbed.data.formats import ShardEntry
from seedbed.errors import SeedbedError
from seedbed.records import checked
from seedbed.runs import Adopted


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "shard.bin"
    path.write_bytes(b"0123456789")
    return path


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are hashed, as if this process had hashed none yet."""
    hashed, found = checksums.hashed, []
    monkeypatch.setattr(checksums, "HASHED", {})
    monkeypatch.setattr(checksums, "hashed", lambda path: found.append(path) or hashed(path))
    return found


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    path.unlink()
    match how:
        case "flip":
            path.write_bytes(b"1" + content[1:])
        case "truncate":
            path.write_bytes(content[:-1])
        case "empty":
            path.write_bytes(b"")
        case "directory":
            path.mkdir()
        case "link":
            path.with_name("elsewhere").write_bytes(content)
            path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize(
    ("how", "found"),
    [
        ("flip", "found sha256 4a5197a6e6cdf4f5, expected 84d89877f0d4041e"),
        ("truncate", "found 9 bytes, expected 10"),
        ("empty", "found 0 bytes, expected 10"),
        ("delete", "found no such file, expected 10 bytes"),
        ("directory", "found no regular file, expected 10 bytes"),
        ("link", "found no regular file, expected 10 bytes"),
    ],
)
def test_a_damaged_file_is_told_with_what_makes_it_again(file: Path, how: str, found: str) -> None:
    facts, again = described(file), file.parent / "index.json"
    verify(file, facts, again)
    damage(file, how)
    with pytest.raises(SeedbedError) as caught:
        verify(file, facts, again)
    assert str(caught.value) == f"{file}: damaged: {found}; `rm -r {again}`, then the same command, makes it again"


def test_files_of_a_directory_are_described_and_verified_by_relative_path(tmp_path: Path) -> None:
    for name in ("a.bin", "model/b.bin", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    files = described_files(tmp_path)
    assert list(files) == ["a.bin", "model/b.bin"]
    damage(tmp_path / "a.bin", "empty")
    verify_files(tmp_path, without(files, "a.bin"), tmp_path)
    with pytest.raises(SeedbedError, match=r"a\.bin: damaged"):
        verify_files(tmp_path, files, tmp_path)


def test_a_file_is_hashed_once_until_it_changes(file: Path, counted: list[Path]) -> None:
    facts = described(file)
    for _ in range(3):
        verify(file, facts, file)
    assert counted == [file]
    os.utime(file, ns=(0, 0))
    verify(file, facts, file)
    assert counted == [file, file]


def test_sizes_alone_are_compared_where_that_is_asked(
    file: Path, counted: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = described(file)
    damage(file, "flip")
    monkeypatch.setenv("SEEDBED_VERIFY", "size")
    verify(file, facts, file)
    assert len(counted) == 1
    damage(file, "empty")
    with pytest.raises(SeedbedError, match="found 0 bytes"):
        verify(file, facts, file)


def test_of_several_ranks_the_first_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEEDBED_VERIFY", raising=False)
    monkeypatch.setenv("RANK", "1")  # of anything
    assert how_often() == "changed"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    for rank, found in (("0", "changed"), ("1", "size")):
        monkeypatch.setenv("RANK", rank)
        assert how_often() == found


def test_an_unknown_way_to_verify_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEEDBED_VERIFY", "allways")
    with pytest.raises(SeedbedError, match="SEEDBED_VERIFY: found 'allways'; did you mean 'always'?"):
        how_often()


def test_a_large_file_is_hashed_once_for_all_processes(
    file: Path, counted: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksums, "LARGE", 5)
    found = sha256(file)
    checksums.HASHED.clear()  # as in another process
    assert sha256(file) == found and len(counted) == 1
    checksums.HASHED.clear()
    monkeypatch.setenv("SEEDBED_VERIFY", "always")
    assert sha256(file) == found and len(counted) == 2
    monkeypatch.delenv("SEEDBED_VERIFY")
    damage(file, "flip")
    checksums.HASHED.clear()
    assert sha256(file) != found and len(counted) == 3


def test_a_damaged_memory_of_a_large_file_is_not_believed(
    file: Path, counted: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksums, "LARGE", 5)
    found = sha256(file)
    note = note_of(file)
    note.write_text(note.read_text().replace(found, "0" * 64))
    checksums.HASHED.clear()
    assert sha256(file) == found and len(counted) == 2


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b"])
def test_names_of_files_stay_below_their_directory(tmp_path: Path, name: str) -> None:
    for kind, value in (
        (ShardEntry, {"file": name, "bytes": 0, "sha256": ""}),
        (Adopted, {"source": "x", "revision": None, "files": {name: {"bytes": 0, "sha256": ""}}}),
    ):
        with pytest.raises(SeedbedError, match="expected a path below its directory"):
            checked(kind, value, tmp_path)


def test_what_is_no_file_has_no_checksum(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(SeedbedError, match=f"{path}: found no regular file"):
            sha256(path)
