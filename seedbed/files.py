"""Files that are complete or absent: everything is written under a temporary name beside its target, then renamed."""

import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from seedbed.errors import SeedbedError

if TYPE_CHECKING:  # slow to load, and most of what reads files does without
    from torch import Tensor


@contextmanager
def replacing(target: Path | str, ours: str | None = None) -> Iterator[Path]:
    """Yield a path beside `target` to write a file or a directory to; it becomes `target` if the block succeeds.

    A directory is replaced by another one as a whole; `ours` is what names in it may match where a person may have
    named it, so that nothing else is lost. A failure inside the block leaves `target` unchanged and removes the partial
    output. One of the operating system, such as a full disk, is an OSError that names `target`.
    """
    target = Path(target)
    check_replaceable(target, ours)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{socket.gethostname()}-{os.getpid()}.partial")
    for stale in target.parent.glob(f".{glob.escape(target.name)}.{socket.gethostname()}-*.partial"):
        number = stale.name.removesuffix(".partial").rpartition("-")[2]
        if number.isdecimal() and not alive(int(number)):
            remove(stale)
    try:
        yield partial
        flush(partial)
        if target.is_dir():
            if not partial.is_dir():
                raise SeedbedError(f"{target}: is a directory; expected a file, or none yet")
            remove(target)
        partial.replace(target)
    except Exception as error:
        if found := named(target, error):
            raise found from error
        raise
    finally:
        remove(partial)


def check_replaceable(target: Path, ours: str | None) -> None:
    """Raise SeedbedError where a directory holds the working directory, or what is not of a stage's."""
    if not target.is_dir():
        return
    if Path.cwd().is_relative_to(target.resolve()):
        raise SeedbedError(f"{target}: holds the working directory; expected a directory of its own")
    strangers = [path.name for path in target.iterdir() if ours and not re.fullmatch(rf"\..*|{ours}", path.name)]
    if strangers:
        raise SeedbedError(f"{target}: holds {min(strangers)}, which would be lost; expected a directory of its own")


def named(target: Path, error: Exception) -> OSError | None:
    """An error of the operating system that names no file, with the one that it came to; None for any other.

    Writes have no name to tell, and libraries in Rust (safetensors, tokenizers) tell the error's number in their text.
    """
    if isinstance(error, SeedbedError):
        return None
    told = re.search(r"\(os error (\d+)\)", str(error))
    number = error.errno if isinstance(error, OSError) else told and int(told[1])
    if not number or getattr(error, "filename", None):
        return None
    return OSError(number, os.strerror(number), str(target))


def flush(path: Path) -> None:
    """Sync the files at `path` to disk, so that a rename never survives a crash that their contents do not."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())


def hold_lock(folder: Path | str) -> IO:
    """Lock a directory for this process until the returned file is closed or the process ends.

    Raises SeedbedError when another process holds it.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    lock = (Path(folder) / ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SeedbedError(f"{folder}: another workflow is writing there; wait for it, or stop it") from None
    return lock


def alive(pid: int) -> bool:
    """Whether a process with that id runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def remove(path: Path) -> None:
    """Delete a file or a directory tree, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def linked(source: str, target: str) -> None:
    """Hard-link a large file that never changes; copy it where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def write_text(path: Path | str, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def canonical_json(value: Any) -> str:
    """A unique spelling of each value, so that equal values have equal text and equal checksums."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def write_json(path: Path | str, value: Any) -> None:
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


@contextmanager
def readable(path: Path | str) -> Iterator[None]:
    """Raise SeedbedError where a path is no file that can be read: a pipe would never end."""
    if not Path(path).is_file():
        raise SeedbedError(f"{path}: {'found no regular file' if Path(path).exists() else 'no such file'}")
    try:
        yield
    except OSError as error:
        raise SeedbedError(f"{path}: {error.strerror or error}") from None


def no_constant(name: str) -> None:
    """Refuse NaN and infinities, which Python reads and JSON does not have."""
    raise ValueError(f"found {name}")


def read_json(path: Path | str) -> Any:
    try:
        with readable(path):
            return json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=no_constant)
    except (ValueError, RecursionError) as error:  # not UTF-8, no JSON, a number of thousands of digits
        raise SeedbedError(f"{path}: not valid JSON ({error})") from None


def read_jsonl(path: Path | str) -> list[dict]:
    """The mappings of a file with one in each line."""
    found = []
    try:
        with readable(path), Path(path).open(encoding="utf-8") as lines:
            for line in lines:
                found.append(json.loads(line, parse_constant=no_constant))
    except (ValueError, RecursionError) as error:
        raise SeedbedError(f"{path}: line {len(found) + 1}: not valid JSON ({error})") from None
    return found


def read_tensors(path: Path | str) -> "dict[str, Tensor]":
    """The tensors of a safetensors file by name."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with readable(path):
            return load_file(path)
    except (SafetensorError, ValueError, KeyError) as error:  # KeyError: a type that torch does not have
        raise SeedbedError(f"{path}: no safetensors file ({error})") from None


def sha256_of(value: Any) -> str:
    """Checksum of a JSON value, independent of key order and spelling."""
    return hashlib.sha256(canonical_json(value).encode(errors="surrogatepass")).hexdigest()
