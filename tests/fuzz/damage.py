"""Whatever one damaged file does to its readers: they refuse it in one line that names it, or nothing changes."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fuzz.chain import Chain, build
from fuzz.readers import LOOSE, READERS, SILENT, Reader, checksums
from hypothesis import strategies as st

from seedbed.checksums import HASHED
from seedbed.config.fields import without
from seedbed.errors import SeedbedError, cut
from seedbed.files import remove
from seedbed.records import SEAL, sealed

# --- what may become of a file: `place` chooses a place in it, or one of several -------------------------------------


def flipped(content: bytes, place: int) -> bytes:
    byte, bit = divmod(place % (8 * len(content)), 8) if content else (0, 0)
    return content[:byte] + bytes([content[byte] ^ 1 << bit]) + content[byte + 1 :] if content else b"\0"


def inserted(content: bytes, place: int) -> bytes:
    place %= len(content) + 1
    return content[:place] + b"\xff\xfe" + content[place:]


def rewritten(content: bytes, change: Callable[[Any], Any], sealed_again: bool = False) -> bytes:
    """Other JSON, that of a mapping with a checksum of its own if asked, as another version might have written it."""
    try:
        value = json.loads(content)
    except ValueError:
        value = {}
    value = change(without(value, SEAL) if isinstance(value, dict) else value)
    return json.dumps(sealed(value) if sealed_again and isinstance(value, dict) else value).encode()


def with_text(value: Any) -> Any:
    """JSON with its numbers as strings."""
    if isinstance(value, dict):
        return {key: with_text(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_text(inner) for inner in value]
    return str(value) if type(value) in (int, float) else value


def without_key(value: Any, place: int) -> Any:
    keys = list(value) if isinstance(value, dict) else []
    return without(value, keys[place % len(keys)]) if keys else value


CONTENTS: dict[str, Callable[[bytes, int], bytes]] = {
    "truncated": lambda content, place: content[: place % max(1, len(content))],
    "flipped": flipped,
    "emptied": lambda content, place: b"",
    "zeros": lambda content, place: bytes(len(content)),
    "longer": lambda content, place: content + b"\0",
    "twice": lambda content, place: content + content,
    "no text": inserted,
    "{}": lambda content, place: b"{}",
    "null": lambda content, place: b"null",
    "[]": lambda content, place: b"[]",
    "text for numbers": lambda content, place: rewritten(content, with_text),
}
# These have a right checksum, so that only their types can tell.
OF_ANOTHER_VERSION: dict[str, Callable[[bytes, int], bytes]] = {
    "sealed {}": lambda content, place: rewritten(content, lambda value: {}, True),
    "sealed text for numbers": lambda content, place: rewritten(content, with_text, True),
    "sealed without a key": lambda content, place: rewritten(content, lambda value: without_key(value, place), True),
}
OTHERS: dict[str, Callable[[Path, bytes], Any]] = {
    "deleted": lambda path, content: None,
    "a directory": lambda path, content: path.mkdir(),
    "a directory with it": lambda path, content: (path.mkdir(), (path / path.name).write_bytes(content)),
    "a link to nothing": lambda path, content: path.symlink_to("nowhere"),
    "a link to itself": lambda path, content: path.symlink_to(path.name),
    "a pipe": lambda path, content: os.mkfifo(path),
}
ANOTHER, LINK, LINK_TO_ANOTHER = "another of its kind", "a link to a copy", "a link to another"
# Flips and other files of the same kind are what is least likely to be found.
HOWS = ("flipped", "flipped", ANOTHER, ANOTHER, *CONTENTS, *OF_ANOTHER_VERSION, *OTHERS, ANOTHER, LINK, LINK_TO_ANOTHER)


# --- a place for it ---------------------------------------------------------------------------------------------------


class Place:
    """A chain in a directory, one of whose files is damaged at a time."""

    def __init__(self, folder: Path) -> None:
        self.root, self.original = folder / "results", folder / "original"
        self.chain = build(self.root)
        self.root.rename(self.original)
        self.files = [path for path in sorted(self.original.rglob("*")) if path.is_file()]
        self.contents = checksums(self.original)
        self.cases = [(reader.name, file) for reader in READERS.values() for file in self.read_by(reader)]
        self.clean: dict[str, Any] = {}
        self.damaged: str | None = None
        self.renew()

    def read_by(self, reader: Reader) -> list[str]:
        return [name for name in self.contents if name.startswith(reader.places)]

    def renew(self) -> None:
        """Link all files to where they were built."""
        remove(self.root)
        shutil.copytree(self.original, self.root, copy_function=os.link)

    def check_original(self) -> None:
        """Raise AssertionError where a reader has written into a file instead of replacing it."""
        assert checksums(self.original) == self.contents

    @contextmanager
    def opened_for(self, reader: Reader) -> Iterator[Chain]:
        """The chain, whose files are whole again afterwards."""
        HASHED.clear()  # two examples may come in one tick of the file system's clock
        try:
            yield self.chain
        finally:
            if reader.writes:
                self.renew()
            elif self.damaged:
                remove(self.root / self.damaged)
                os.link(self.original / self.damaged, self.root / self.damaged)
            self.damaged = None

    def undamaged(self, reader: Reader) -> tuple[Any, Any]:
        """What a reader finds, and the parts that it may come back with where it is lenient."""
        if reader.name not in self.clean:
            with self.opened_for(reader) as chain:
                found = reader.read(chain, unexpected)
            with self.opened_for(reader) as chain:
                known = reader.known(chain, unexpected) if reader.known else found
            self.clean[reader.name] = found, known
        return self.clean[reader.name]

    def damage(self, file: str, how: str, place: int) -> None:
        path, content = self.root / file, (self.original / file).read_bytes()
        path.unlink()
        self.damaged = file
        if how in OTHERS:
            OTHERS[how](path, content)
        elif how == LINK:
            path.symlink_to(self.original / file)
        elif how == LINK_TO_ANOTHER:
            path.symlink_to(self.another(path, content, place))
        elif how == ANOTHER:
            shutil.copyfile(self.another(path, content, place), path)
        else:
            path.write_bytes((CONTENTS | OF_ANOTHER_VERSION)[how](content, place))

    def another(self, path: Path, content: bytes, place: int) -> Path:
        """A file of the same name from elsewhere, or else of the same ending, or else any."""
        others = [one for one in self.files if one.read_bytes() != content]
        alike = [one for one in others if one.name == path.name] or [one for one in others if one.suffix == path.suffix]
        return (alike or others)[place % len(alike or others)]

    def holds(self, name: str, file: str, how: str, place: int) -> str:
        """What came of an example; raises where that is not what should."""
        reader, told = READERS[name], []
        clean, known = self.undamaged(reader)
        try:
            with self.opened_for(reader) as chain:
                self.damage(file, how, place)
                found = reader.read(chain, told.append)
        except SeedbedError as error:
            self.check_line(str(error), file)
            return "refused"
        if found == clean:
            return "unchanged"
        if reader.lenient == LOOSE or how in OF_ANOTHER_VERSION:
            return "not to be found"
        left = isinstance(found, dict) and all(known.get(key, self) == value for key, value in found.items())
        assert reader.lenient and left, f"another result: {difference(found, known)}"
        if reader.lenient != SILENT:
            assert told, "left out without a word"
            self.check_line(" ".join(told), file)
        return "left out"

    def check_line(self, message: str, file: str) -> None:
        """Raise AssertionError unless a message is one line that names the file or its directory."""
        parts = file.split("/")
        names = [self.root / "/".join(parts[:count]) for count in range(min(2, len(parts)), len(parts) + 1)]
        names.append(self.root.parent / "out" / "/".join(parts[1:-1]))  # where a model was moved to
        assert len(message) <= 400 and message.isprintable(), f"no line: {message!r}"
        assert any(str(name) in message for name in names), f"names no file: {message}"


def unexpected(message: str) -> None:
    raise AssertionError(f"told without damage: {message}")


def difference(found: Any, clean: Any) -> str:
    """The first part that differs."""
    if isinstance(found, dict) and isinstance(clean, dict):
        for key in [*found, *clean]:
            if found.get(key) != clean.get(key):
                return f"{key}: {difference(found.get(key), clean.get(key))}"
    if isinstance(found, str) and isinstance(clean, str):
        start = len(os.path.commonprefix([found, clean]))
        found, clean = found[max(0, start - 20) :], clean[max(0, start - 20) :]
    return f"{cut(repr(found), 80)} for {cut(repr(clean), 80)}"


def examples(place: Place) -> st.SearchStrategy[tuple[str, str, str, int]]:
    """A reader, a file that it reads, what becomes of it, and a number that chooses where."""
    pairs, numbers = st.sampled_from(place.cases), st.integers(0, 2**31)
    return st.tuples(pairs, st.sampled_from(HOWS), numbers).map(lambda drawn: (*drawn[0], *drawn[1:]))
