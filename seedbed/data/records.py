"""Lines, JSON and CSV as streams of records, each of at most `max_record_bytes`.

Bad input raises SeedbedError with the file and the line where the record begins.
"""

import codecs
import csv
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO

from seedbed.errors import SeedbedError

READ = 64 << 10  # bytes of a stream at a time
BLOCK = 1 << 20  # characters of a JSON file that are looked at together
NEAR = 16  # characters before the end of a part of a JSON file in which a value may be cut
DECODER = json.JSONDecoder()


def too_large(where: str, most: int) -> SeedbedError:
    return SeedbedError(f"{where}: a record of more than {most} bytes, the max_record_bytes of the corpus")


def decode(name: str, raw: bytes, first_line: int = 1) -> str:
    try:
        return raw.decode("utf-8-sig" if first_line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line = first_line + raw.count(b"\n", 0, error.start)
        raise SeedbedError(f"{name}: line {line}: not UTF-8 (byte 0x{raw[error.start]:02x})") from None


def read(stream: BinaryIO, most: int) -> bytes:
    """The next `most` bytes, or all that there are; a large `most` takes no memory for a small file."""
    if isinstance(getattr(stream, "raw", None), io.FileIO):
        size = os.fstat(stream.fileno()).st_size + 1
        first = stream.read(min(most, size))
        return first if len(first) < size else first + read_blocks(stream, most - size)
    return read_blocks(stream, most)


def read_blocks(stream: BinaryIO, most: int) -> bytes:
    blocks, step = [], READ
    while most > 0 and (block := stream.read(min(most, step))):
        blocks.append(block)
        most, step = most - len(block), min(2 * step, BLOCK)
    return b"".join(blocks)


def whole_text(name: str, stream: BinaryIO, most: int) -> str:
    raw = read(stream, most + 1)
    if len(raw) > most:
        raise too_large(f"{name}: line 1", most)
    return decode(name, raw)


def numbered_lines(name: str, stream: BinaryIO, most: int) -> Iterator[tuple[int, bytes]]:
    """Lines of at most `most` bytes with their numbers from 1; a line has its end."""
    reader = io.BufferedReader(stream, READ)
    for number, line in enumerate(iter(partial(reader.readline, most + 1), b""), start=1):
        if len(line) > most:
            raise too_large(f"{name}: line {number}", most)
        yield number, line


def jsonl_records(name: str, stream: BinaryIO, spec: dict) -> Iterator[Any]:
    for number, raw in numbered_lines(name, stream, spec["max_record_bytes"]):
        line = decode(name, raw, number)
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                raise not_json(f"{name}: line {number}", error) from None


def not_json(where: str, error: ValueError | RecursionError) -> SeedbedError:
    if isinstance(error, json.JSONDecodeError):
        return SeedbedError(f"{where}: not valid JSON ({error.msg})")
    if isinstance(error, RecursionError):
        return SeedbedError(f"{where}: JSON is nested too deeply")
    return SeedbedError(f"{where}: an integer of more than {sys.get_int_max_str_digits()} digits")


class JsonText:
    """A JSON file as text, a part at a time: `text` from `at` on is to be read, `line` is the line of its start."""

    SPACE = re.compile(r"[ \t\n\r]*")

    def __init__(self, name: str, stream: BinaryIO, most: int) -> None:
        self.name, self.stream, self.most = name, stream, most
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self.text, self.at, self.line, self.ended = "", 0, 1, False

    def line_at(self, place: int) -> int:
        return self.line + self.text.count("\n", 0, place)

    def extend(self) -> None:
        """Drop what was read; double the rest, so that reading a long value again each time costs as much as once."""
        self.line, self.text, self.at = self.line_at(self.at), self.text[self.at :], 0
        raw = read(self.stream, max(BLOCK, min(len(self.text), self.most + 1 - len(self.text))))
        self.ended = not raw
        try:
            self.text += self.decoder.decode(raw, self.ended)
        except UnicodeDecodeError as error:
            found, line = error.object, self.line_at(len(self.text))
            line += found.count(b"\n", 0, error.start)
            raise SeedbedError(f"{self.name}: line {line}: not UTF-8 (byte 0x{found[error.start]:02x})") from None

    def next_character(self) -> str:
        """What follows white space; empty at the end of the file."""
        while True:
            self.at = self.SPACE.match(self.text, self.at).end()
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self.extend()

    def value(self) -> Any:
        """The value that begins at `at`."""
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.at)
            except (ValueError, RecursionError) as error:
                if self.ended or not self.may_be_cut(error):
                    place = error.pos if isinstance(error, json.JSONDecodeError) else self.at
                    raise not_json(f"{self.name}: line {self.line_at(place)}", error) from None
                self.check_size(len(self.text))
            else:
                self.check_size(end)
                if self.ended or end < len(self.text) - NEAR:
                    self.at = end
                    return value
                del value  # before it is made again
            self.extend()

    def may_be_cut(self, error: ValueError | RecursionError) -> bool:
        """Whether the error may be because the text ends in the middle of a value."""
        return isinstance(error, json.JSONDecodeError) and (
            error.pos >= len(self.text) - NEAR or error.msg.startswith("Unterminated string")
        )

    def check_size(self, end: int) -> None:
        characters = end - self.at
        if 4 * characters > self.most and len(self.text[self.at : end].encode()) > self.most:
            raise too_large(f"{self.name}: line {self.line_at(self.at)}", self.most)

    def fail(self, expected: str) -> None:
        raise SeedbedError(f"{self.name}: line {self.line_at(self.at)}: not valid JSON ({expected})")


def json_records(name: str, stream: BinaryIO, spec: dict) -> Iterator[Any]:
    """The values of an array, of which one at a time is in memory; a file with another value is that one record."""
    text = JsonText(name, stream, spec["max_record_bytes"])
    if text.next_character() != "[":
        yield text.value()
    else:
        text.at += 1
        closed = text.next_character() == "]"
        while not closed:
            text.next_character()
            yield text.value()
            found = text.next_character()
            if found not in (",", "]"):
                text.fail("Expecting ',' delimiter")
            closed = found == "]"
            text.at += not closed
        text.at += 1
    if text.next_character():
        text.fail("Extra data")


def csv_records(name: str, stream: BinaryIO, spec: dict) -> Iterator[dict]:
    """Rows as dicts by the names in the first one; a row that is too short has None for the rest."""
    most = spec["max_record_bytes"]
    first, size = 1, 0

    def lines() -> Iterator[str]:
        nonlocal size
        for number, line in numbered_lines(name, stream, most):
            size += len(line)
            if size > most:
                raise too_large(f"{name}: line {first}", most)
            yield decode(name, line, number)

    csv.field_size_limit(max(most, csv.field_size_limit()))  # documents are longer than csv's default limit
    rows, header = csv.reader(lines()), None
    try:
        for row in rows:
            if header is None:
                header = row
            elif row:
                yield dict.fromkeys(header[len(row) :]) | dict(zip(header, row, strict=False))
            first, size = rows.line_num + 1, 0
    except csv.Error as error:
        raise SeedbedError(f"{name}: line {first}: not valid CSV ({error})") from None
