"""Sources of documents: wheels, URLs, local files and the hub, in plain, compressed or archived files.

Everything is read as a stream; archives are never unpacked. Bad input raises SeedbedError with file and line or record,
and so does a record of more than `max_record_bytes`: memory is bounded by the largest record, whatever a file says.
"""

import bz2
import codecs
import csv
import errno
import fnmatch
import glob
import gzip
import inspect
import io
import json
import lzma
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from datetime import date
from datetime import time as time_of_day
from decimal import Decimal
from functools import partial
from http.client import HTTPException, InvalidURL
from itertools import pairwise
from pathlib import Path
from string import Formatter
from typing import Any, BinaryIO

from seedbed.checksums import sha256
from seedbed.data.parquet_pages import Chunk, pages, row_groups
from seedbed.errors import SeedbedError, choices, shown
from seedbed.files import replacing
from seedbed.progress import progress

COMPRESSED = (".gz", ".xz", ".zst")
FORMATS = {".txt": "text", ".jsonl": "jsonl", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
# zipfile raises RuntimeError for an encrypted member. Numbers and names that make no sense are ValueError, LookupError,
# OverflowError or struct.error in zipfile, tarfile and pyarrow.
DAMAGE = (EOFError, OSError, RuntimeError, ValueError, LookupError, OverflowError)
DAMAGE += (struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError)
PLAIN = (int, float, Decimal, date, time_of_day)  # what a template writes besides text
ATTEMPTS = 5
TRY_AGAIN = (408, 429)  # of the answers 3xx and 4xx, those that another attempt may change

READ = 64 << 10  # bytes of a stream at a time
BLOCK = 1 << 20  # characters of a JSON file, or bytes of a column of parquet, that are looked at together
NEAR = 16  # characters before the end of a part of a JSON file in which a value may be cut
TAR_HEADER_BYTES = 1 << 20  # between two members; tarfile reads names and tables of any length
ZIP_DIRECTORY_BYTES = 96 << 20  # about a million members, of which zipfile makes half a GB
PARQUET_BYTES = 64 << 20  # of a column that are decompressed together, if its values are no larger
PARQUET_ROWS = 1000

# --- downloading -----------------------------------------------------------------------------------------------------


def download(source: dict, target: Path) -> None:
    """Fetch the wheel or URL of `source` to the file `target`, checked against its sha256.

    Raises SeedbedError without network, or when the checksum is wrong (the file is then deleted).
    """
    if "package" in source:
        download_package(source["package"], source["sha256"], target)
    else:
        download_url(source["url"], source["sha256"], target)


def download_package(package: str, checksum: str, target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
        command += ["--no-deps", "--only-binary", ":all:", "--dest", folder, package]
        print(f"pip downloads {package}", file=sys.stderr, flush=True)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        if done.returncode:
            reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no reason given"]
            raise SeedbedError(f"cannot download {package} (is there a network?): pip reports {reasons[-1]}")
        (wheel,) = Path(folder).iterdir()
        check_sha256(wheel, checksum, package)
        with replacing(target) as partial:
            shutil.copyfile(wheel, partial)


def download_url(url: str, checksum: str, target: Path, pause: float = 1.0) -> None:
    """Fetch a URL, resuming an interrupted download; `pause` seconds, doubling, between attempts."""
    if url.startswith("file:"):
        check_file_url(url)
    partial = target.with_name(f".{target.name}.download")
    partial.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(ATTEMPTS):
        try:
            fetch_rest(url, partial)
            break
        except (OSError, HTTPException, ValueError) as error:  # ValueError: urllib does not understand the address
            code = 400 if isinstance(error, ValueError | InvalidURL) else getattr(error, "code", 500)
            if attempt == ATTEMPTS - 1 or (code < 500 and code not in TRY_AGAIN):
                raise SeedbedError(f"cannot download {url}: {error}; the same command resumes it") from None
            time.sleep(pause * 2**attempt)
    try:
        check_sha256(partial, checksum, url)
    except SeedbedError:
        partial.unlink()
        raise
    partial.replace(target)


def check_file_url(url: str) -> None:
    """Refuse the URL of what is no file: a device never ends, a pipe may never begin."""
    path = Path(urllib.request.url2pathname(urllib.request.Request(url).selector))
    if not path.is_file():
        found = "something else" if path.exists() else "nothing"
        raise SeedbedError(f"cannot download {url}: expected a file, found {found} there")


def fetch_rest(url: str, partial: Path) -> None:
    """Append the missing rest of `url` to `partial`; start over if the server supports no ranges."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the file is complete
            return
        raise
    with response, writing(partial), partial.open("ab" if response.status == 206 else "wb") as stream:
        length = response.headers.get("Content-Length") or ""
        expected = int(length) if re.fullmatch("[0-9]{1,18}", length) else -1
        received, whole = 0, have + expected if response.status == 206 else expected
        shown = {"what": url.rpartition("/")[2], "unit": "B", "unit_scale": True, "initial": max(0, whole - expected)}
        with progress(total=whole if expected >= 0 else None, **shown) as bar:
            while block := response.read(1 << 20):
                stream.write(block)
                received += len(block)
                bar.update(len(block))
    if expected >= 0 and received < expected:
        raise OSError(f"connection closed after {received} of {expected} bytes")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file where the disk, not the network, is what fails."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise SeedbedError(f"cannot write {path}: {error.strerror}; free some space, or delete it") from None
        raise


def check_sha256(path: Path, expected: str, what: str) -> None:
    found = sha256(path)
    if found != expected:
        raise SeedbedError(f"{what}: wrong sha256: found {found}, expected {expected}")


# --- files and archives ----------------------------------------------------------------------------------------------


def local_files(patterns: str | list[str]) -> list[Path]:
    """Files that match `patterns` (paths, directories, globs), sorted; every pattern must match something.

    Pipes, sockets and devices are no files. Raises SeedbedError also where a directory may not be read.
    """
    found = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        with damage_reported(pattern):
            matches = matching(pattern)
        if not matches:
            where = "" if Path(pattern).is_absolute() else f" (relative to {Path.cwd()})"
            known = ", ".join(FORMATS)
            raise SeedbedError(f"{pattern}: no such file, or a directory without {known} files{where}")
        found.update(matches)
    return sorted(found)


def matching(pattern: str) -> list[Path]:
    paths = [Path(pattern)]
    if not paths[0].exists():
        check_no_loops(pattern)
        paths = [Path(path) for path in glob.glob(pattern, recursive=True)]
    inside = [file for path in paths if path.is_dir() for file in files_below(path) if format_of(file.name)]
    return [file for file in [*paths, *inside] if file.is_file()]


def files_below(folder: Path) -> Iterator[Path]:
    """Everything below a directory that is none itself; links to directories are not followed."""
    for parent, _, names in os.walk(folder, onerror=reraise):
        yield from (Path(parent, name) for name in names)


def reraise(error: OSError) -> None:
    raise error


def check_no_loops(pattern: str) -> None:
    """Refuse a `**` that would follow a link to a directory above it: it matches every file dozens of times."""
    above, recursive, _ = pattern.partition("**")
    tops = glob.glob(above.rpartition("/")[0] or (above and "/") or ".") if recursive else []
    for top in tops:
        for parent, names, _ in os.walk(top, followlinks=True):
            for link in (Path(parent, name) for name in names):
                if link.is_symlink() and link.resolve() in {folder.resolve() for folder in link.parents}:
                    raise SeedbedError(f"{link}: a link to a directory above it, which ** would follow without end")


@contextmanager
def damage_reported(name: str) -> Iterator[None]:
    """Turn what decompressors and archive readers raise into one line that names the file."""
    try:
        yield
    except DAMAGE as error:
        if isinstance(error, OSError) and error.strerror:
            raise SeedbedError(f"{error.filename or name}: cannot be read: {error.strerror}") from None
        raise SeedbedError(f"{name}: truncated or damaged: {error}") from None


def streams(path: Path, member: str | None) -> Iterator[tuple[str, BinaryIO]]:
    """Names and bytes of a file, or of the members of a zip or tar archive that match the glob `member`."""
    if member is None:
        with damage_reported(str(path)), path.open("rb") as stream:
            yield str(path), stream
        return
    found = False
    with damage_reported(str(path)):
        members = zip_members if zipfile.is_zipfile(path) else tar_members
        for name, stream in members(path):
            if fnmatch.fnmatch(name, member):
                found = True
                yield f"{path}:{name}", stream
    if not found:
        raise SeedbedError(f"{path}: no member matches {member!r}")


def zip_members(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    with path.open("rb") as stream:
        end = zipfile._EndRecData(stream)
        if end and end[zipfile._ECD_SIZE] > ZIP_DIRECTORY_BYTES:
            raise SeedbedError(f"{path}: a list of members of more than {ZIP_DIRECTORY_BYTES} bytes")
    with zipfile.ZipFile(path) as archive:
        check_no_overlap(archive)
        for info in sorted(archive.infolist(), key=lambda info: info.filename):
            if not info.is_dir():
                with zip_member(archive, info) as stream:
                    yield info.filename, stream


def zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> BinaryIO:
    """The bytes of a member; of bz2 and LZMA zipfile itself decompresses at once whatever it reads."""
    if info.compress_type == zipfile.ZIP_BZIP2:
        stored = copy(info)
        stored.compress_type, stored.file_size = zipfile.ZIP_STORED, info.compress_size
        del stored.CRC  # that of the decompressed bytes; bz2 has its own
        return bz2.open(archive.open(stored))
    stream = archive.open(info)
    return io.BufferedReader(SmallReads(stream)) if info.compress_type == zipfile.ZIP_LZMA else stream


class SmallReads(io.RawIOBase):
    """A compressed member of a zip archive, 4 kB at a time: LZMA makes at most 30 MB of those."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        block = self.stream.read1(min(len(buffer), 4096))
        buffer[: len(block)] = block
        return len(block)


def check_no_overlap(archive: zipfile.ZipFile) -> None:
    """Refuse members that share bytes, of which a small archive makes any number."""
    for one, other in pairwise(sorted(archive.infolist(), key=lambda info: info.header_offset)):
        if one.header_offset + one.compress_size >= other.header_offset:
            raise zipfile.BadZipFile(f"members {one.filename!r} and {other.filename!r} overlap")


class TarHeader(tarfile.TarInfo):
    """A header that has to be whole: tarfile takes a damaged one as the end of the archive."""

    @classmethod
    def frombuf(cls, *args) -> "TarHeader":
        try:
            return super().frombuf(*args)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:
            raise tarfile.ReadError(str(error)) from None


class TarStream:
    """The bytes of a tar archive, of which `left` more may be read."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.left = stream, TAR_HEADER_BYTES

    def read(self, size: int) -> bytes:
        block = self.stream.read(size)
        self.left -= len(block)
        if self.left < 0:
            raise tarfile.ReadError(f"a header of more than {TAR_HEADER_BYTES} bytes")
        return block


def tar_members(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    with path.open("rb") as raw:
        stream = TarStream(tar_decompressed(raw))
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=TarHeader) as archive:
            while info := archive.next():
                archive.members.clear()
                stream.left = math.inf
                if info.isfile():
                    yield info.name, archive.extractfile(info)
                skip_rest(archive)
                stream.left = TAR_HEADER_BYTES


def tar_decompressed(raw: BinaryIO) -> BinaryIO:
    """The bytes of a tar archive, decompressed as its first bytes say."""
    first = raw.read(6)
    raw.seek(0)
    if first.startswith(b"\x1f\x8b"):
        return gzip.open(raw)
    if first.startswith(b"BZh"):
        return bz2.open(raw)
    return lzma.open(raw) if first.startswith((b"\xfd7zXZ", b"]\0\0\x80")) else raw


def skip_rest(archive: tarfile.TarFile) -> None:
    """Read up to the last byte before the next header; tarfile itself would not notice that the file has ended."""
    while (left := archive.offset - 1 - archive.fileobj.tell()) > 0:
        if not archive.fileobj.read(min(left, READ)):
            raise tarfile.ReadError("unexpected end of data")


def decompressed(name: str, stream: BinaryIO) -> BinaryIO:
    match Path(name).suffix:
        case ".gz":
            return gzip.open(stream)
        case ".xz":
            return lzma.open(stream)
        case ".zst":
            import pyarrow  # the zstandard package would take a truncated file as complete

            return pyarrow.CompressedInputStream(pyarrow.PythonFile(stream), "zstd")
    return stream


def format_of(name: str) -> str | None:
    """The format by a file's suffix, without that of its compression: `a.jsonl.zst` is `jsonl`."""
    path = Path(name)
    return FORMATS.get(Path(path.stem).suffix if path.suffix in COMPRESSED else path.suffix)


# --- documents -------------------------------------------------------------------------------------------------------


def documents(spec: dict, downloaded: Path | None = None) -> Iterator[str]:
    """The raw texts of a corpus in the order of its source.

    `spec` is a corpus of the configuration; `downloaded` the file that `download` made, for sources that have one.
    """
    source = spec["source"]
    if "hub" in source:
        yield from rendered(hub_records(source), spec, source["hub"])
        return
    paths = [downloaded] if downloaded else local_files(source["files"])
    for path in paths:
        for name, stream in streams(path, source.get("member")):
            yield from file_documents(spec, name, stream)


def split_documents(spec: dict) -> dict[str, Iterator[str]]:
    """The raw texts of each split of a corpus that has a source of its own, read like those of the main source."""
    own = {name: source for name, source in spec["split"].items() if isinstance(source, dict)}
    return {name: documents(spec | {"source": source}) for name, source in own.items()}


def file_documents(spec: dict, name: str, stream: BinaryIO) -> Iterator[str]:
    kind = spec["format"] if spec["format"] != "auto" else format_of(name)
    if kind is None:
        known = ", ".join(FORMATS)
        raise SeedbedError(f"{name}: unknown suffix; expected one of {known}, or `format` set in the corpus")
    with damage_reported(name):
        stream = decompressed(name, stream)
        match kind:
            case "text":
                yield whole_text(name, stream, spec["max_record_bytes"])
            case "lines" | "tagged-lines":
                yield from line_documents(name, stream, spec, plain=untagged if kind == "tagged-lines" else str)
            case _:
                yield from rendered(READERS[kind](name, stream, spec), spec, name)


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


def line_documents(name: str, stream: BinaryIO, spec: dict, plain: Callable[[str], str]) -> Iterator[str]:
    """Documents of `lines_per_document` lines that are not blank, each made `plain`; the last one may have fewer."""
    most = spec["max_record_bytes"]
    document, size, first = [], 0, 1
    for number, raw in numbered_lines(name, stream, most):
        line = plain(decode(name, raw, number))
        if not line.strip():
            continue
        first, size = (first, size + len(raw)) if document else (number, len(raw))
        if size > most:
            raise too_large(f"{name}: line {first}", most)
        document.append(line.rstrip("\r\n"))
        if len(document) == spec["lines_per_document"]:
            yield "\n".join(document)
            document = []
    if document:
        yield "\n".join(document)


def untagged(line: str) -> str:
    """A line of `word/pos  word/pos` as plain text: drop what follows the last slash of each word, join."""
    return "".join(word.rpartition("/")[0] or word for word in line.split())


# --- records ---------------------------------------------------------------------------------------------------------


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


def parquet_records(name: str, stream: BinaryIO, spec: dict) -> Iterator[dict]:
    """Rows with the fields that the text needs, decompressed as many at once as is known to take bounded memory."""
    import pyarrow
    import pyarrow.parquet

    most, fields, number = spec["max_record_bytes"], template_fields(spec["text"]), 0
    try:
        file = pyarrow.parquet.ParquetFile(stream, buffer_size=BLOCK)
        if file.metadata.num_rows:
            check_columns(f"{name}: record 1", fields, file.schema_arrow)
        chunks = chunks_of(stream, file, fields)
        for group in range(file.num_row_groups):
            rows = rows_at_once(stream, chunks[group], f"{name}: a record after number {number}", most) if chunks else 1
            for batch in file.iter_batches(rows, row_groups=[group], columns=fields):
                try:
                    yield from batch.to_pylist()
                except UnicodeDecodeError as error:
                    where, byte = f"records {number + 1} to {number + len(batch)}", error.object[error.start]
                    raise SeedbedError(f"{name}: {where}: not UTF-8 (byte 0x{byte:02x})") from None
                number += len(batch)
    except pyarrow.ArrowException as error:
        raise SeedbedError(f"{name}: truncated or damaged parquet file: {error}") from None


def check_columns(where: str, fields: list[str], schema: Any) -> None:
    """Raise SeedbedError if a column is missing, there twice, or of a nested type, whose size pages do not bound."""
    import pyarrow

    for field in fields:
        if field not in schema.names:
            raise no_field(where, field, schema.names)
        if schema.names.count(field) > 1:
            raise SeedbedError(f"{where}: {schema.names.count(field)} fields {shown(field)}, expected one")
        if pyarrow.types.is_nested(schema.field(field).type):
            raise SeedbedError(f"{where}: field {shown(field)} is {schema.field(field).type}, expected text")


def chunks_of(stream: BinaryIO, file: Any, fields: list[str]) -> list[list[Chunk]]:
    """The chunks of the columns `fields` in each row group of a parquet file; none where its footer is unusual."""
    try:
        groups = row_groups(stream)
    except ValueError:
        return []
    columns = [number for number in range(len(file.schema)) if file.schema.column(number).path in fields]
    complete = len(groups) == file.num_row_groups and all(len(group) == len(file.schema) for group in groups)
    return [[group[number] for number in columns] for group in groups] if complete else []


def rows_at_once(stream: BinaryIO, chunks: list[Chunk], where: str, most: int) -> int:
    """How many rows of a row group to decompress at once: none of their values is larger than the largest page.

    Raises SeedbedError where a page is so large that one of its values has to have more than `most` bytes.
    """
    largest = 1
    try:
        for page in (page for chunk in chunks for page in pages(stream, chunk)):
            # Four bytes for the length of a value, and few for whether there is one.
            if page.size > page.values * (most + NEAR) + NEAR:
                raise too_large(where, most)
            largest = max(largest, page.size)
    except ValueError:
        return 1
    return max(1, min(PARQUET_ROWS, PARQUET_BYTES // largest))


READERS = {"jsonl": jsonl_records, "json": json_records, "csv": csv_records, "parquet": parquet_records}
DECODER = json.JSONDecoder()


def hub_records(source: dict) -> Iterator[dict]:
    import datasets

    options = {"split": source["split"], "revision": source["revision"], "streaming": True}
    if "trust_remote_code" in inspect.signature(datasets.load_dataset).parameters:
        options["trust_remote_code"] = False  # versions before 4 run the script of a data set
    try:
        yield from datasets.load_dataset(source["hub"], source["name"], **options)
    except Exception as error:  # its own errors, and those of urllib, pyarrow and fsspec
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SeedbedError(f"hub dataset {source['hub']} (split {source['split']}): {reason}") from None


# --- texts of records ------------------------------------------------------------------------------------------------


def template_fields(text: str) -> list[str]:
    """The names of the fields that `text` of a corpus needs, each once: its own, or those in a template."""
    fields = [field for _, field, _, _ in Formatter().parse(text) if field] if "{" in text else [text]
    return list(dict.fromkeys(fields))


def rendered(records: Iterable[Any], spec: dict, name: str) -> Iterator[str]:
    """Texts of records: a plain string as it is, else the field `text`, or the template if it has {fields}."""
    text, most = spec["text"], spec["max_record_bytes"]
    template = [(literal, field) for literal, field, _, _ in Formatter().parse(text)] if "{" in text else None
    for number, record in enumerate(records, start=1):
        where = f"{name}: record {number}"
        if isinstance(record, str):
            value = record
        elif not isinstance(record, dict):
            raise SeedbedError(f"{where}: expected an object or a string, found {type(record).__name__}")
        elif template:
            pieces = ((literal, filled(record, field, text, where) if field else "") for literal, field in template)
            value = "".join(piece for pair in pieces for piece in pair)
        else:
            value = found(record, text, where)
            if not isinstance(value, str):
                raise SeedbedError(f"{where}: field {shown(text)} is {type(value).__name__}, expected text")
        try:
            size = len(value.encode())
        except UnicodeEncodeError as error:
            raise SeedbedError(f"{where}: half of a surrogate pair at character {error.start}") from None
        if size > most:
            raise too_large(where, most)
        yield value


def found(record: dict, field: str, where: str) -> Any:
    try:
        return record[field]
    except KeyError:
        raise no_field(where, field, record) from None


def no_field(where: str, field: str, valid: Iterable[str]) -> SeedbedError:
    return SeedbedError(f"{where}: no field {shown(field)}{choices(field, valid)}")


def filled(record: dict, field: str, template: str, where: str) -> str:
    """A field in a template: text as it is, numbers and dates as Python writes them."""
    value = found(record, field, where)
    if isinstance(value, str):
        return value
    if value is None:
        raise SeedbedError(f"{where}: a field of {shown(template)} is null, expected text")
    finite = not isinstance(value, float) or math.isfinite(value)
    if isinstance(value, PLAIN) and not isinstance(value, bool) and finite:
        return str(value)
    expected = "expected text, a number or a date"
    raise SeedbedError(f"{where}: field {shown(field)} of the template is {type(value).__name__}, {expected}")
