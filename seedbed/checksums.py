"""Files that are what a stage wrote down: sizes and checksums, described by the writer and verified by each reader.

SEEDBED_VERIFY says how often bytes are hashed. `changed`, the default: each process hashes each file that it reads
once, and a file of more than a GiB only when its size or its time of change is not what it was when it was last hashed.
`always`: each process hashes all that it reads. `size`: sizes alone are compared.
"""

import hashlib
import os
import stat
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator

from seedbed.errors import SeedbedError, choices
from seedbed.files import readable
from seedbed.ranks import rank
from seedbed.records import Record, read_record, write_record

VERIFY = "SEEDBED_VERIFY"
HOW_OFTEN = ("changed", "always", "size")
LARGE = 1 << 30  # bytes from which on the checksum of an unchanged file is remembered between processes
HASHED: dict[str, tuple[tuple[int, ...], str]] = {}  # by path: size, times and inode, and the checksum then


def inside(name: str) -> str:
    """Accept the relative path of a file below its directory."""
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise ValueError("expected a path below its directory")
    return name


Inside = Annotated[str, AfterValidator(inside)]


class FileFacts(Record):
    bytes: int
    sha256: str


class Remembered(Record):
    """The checksum of a large file, beside it, with its size, times and number, which nobody else can foresee."""

    state: list[int]
    sha256: str


def how_often() -> str:
    """The value of SEEDBED_VERIFY; of several ranks that read the same files, only the first hashes them."""
    found = os.environ.get(VERIFY, HOW_OFTEN[0])
    if found not in HOW_OFTEN:
        raise SeedbedError(f"{VERIFY}: found {found!r}{choices(found, HOW_OFTEN)}")
    return "size" if rank() else found


def sha256(path: Path | str) -> str:
    """Checksum of a file's bytes, in hexadecimal; computed once per process as long as the file does not change."""
    path = Path(path)
    with readable(path):
        now = path.stat()
        state = now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino
        known = HASHED.get(key := str(path.resolve()))
        if known is None or known[0] != state:
            HASHED[key] = state, remembered(path, *state) or hashed(path)
    return HASHED[key][1]


def hashed(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def note_of(path: Path) -> Path:
    """Where the checksum of a large file is remembered."""
    return path.with_name(f".{path.name}.sha256")


def remembered(path: Path, *state: int) -> str | None:
    """The checksum of a large file as it was found last, if the file has not changed since."""
    if state[0] < LARGE or how_often() == "always":
        return None
    try:
        found = read_record(note_of(path), Remembered)
    except SeedbedError:
        found = None
    if found and found["state"] == list(state):
        return found["sha256"]
    checksum = hashed(path)
    try:
        write_record(note_of(path), Remembered, {"state": list(state), "sha256": checksum})
    except OSError:  # somebody else's directory
        pass
    return checksum


def described(path: Path) -> FileFacts:
    """Size and checksum of a file that was just written."""
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def weight_checksums(folder: Path) -> dict[str, str]:
    """Checksums of the weights in a model's directory, by file."""
    return {path.name: sha256(path) for path in sorted(folder.glob("*.safetensors"))}


def model_checksums(folder: Path) -> dict[str, str]:
    """Checksums of the weights and the config of a model's directory, by file: what it computes depends on both."""
    return weight_checksums(folder) | {path.name: sha256(path) for path in folder.glob("config.json")}


def described_files(folder: Path) -> dict[str, FileFacts]:
    """Every file below a directory by its relative path."""
    return {name: described(folder / name) for name in sorted(described_names(folder))}


def described_names(folder: Path) -> set[str]:
    """The relative paths of the files below a directory; hidden ones are nobody's."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)) for path in files}


def mismatch(path: Path, facts: FileFacts) -> str | None:
    """What a file is and what it should be, if that differs."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return f"found no such file, expected {facts['bytes']} bytes"
    if not stat.S_ISREG(found.st_mode):
        return f"found no regular file, expected {facts['bytes']} bytes"
    if found.st_size != facts["bytes"]:
        return f"found {found.st_size} bytes, expected {facts['bytes']}"
    if how_often() != "size" and (checksum := sha256(path)) != facts["sha256"]:
        return f"found sha256 {checksum[:16]}, expected {facts['sha256'][:16]}"
    return None


def verify(path: Path, facts: FileFacts, again: Path) -> None:
    """Raise SeedbedError where a file is not what was written; without the file `again` its stage makes it again."""
    if problem := mismatch(path, facts):
        raise SeedbedError(f"{path}: damaged: {problem}; `rm -r {again}`, then the same command, makes it again")


def verify_files(folder: Path, files: dict[str, FileFacts], again: Path) -> None:
    """Verify the files of a directory by relative path."""
    for name, facts in files.items():
        verify(folder / name, facts, again)
