"""Compressed files and archives as streams; archives are never unpacked.

Memory is bounded whatever a file says of itself, and damage is one line of a SeedbedError with its name.
"""

import bz2
import fnmatch
import gzip
import io
import lzma
import math
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from seedbed.data.records import READ
from seedbed.errors import SeedbedError

# zipfile raises RuntimeError for an encrypted member. Numbers and names that make no sense are ValueError, LookupError,
# OverflowError or struct.error in zipfile, tarfile and pyarrow.
DAMAGE = (EOFError, OSError, RuntimeError, ValueError, LookupError, OverflowError)
DAMAGE += (struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError)
TAR_HEADER_BYTES = 1 << 20  # between two members; tarfile reads names and tables of any length
ZIP_DIRECTORY_BYTES = 96 << 20  # about a million members, of which zipfile makes half a GB


@contextmanager
def damage_reported(name: str) -> Iterator[None]:
    """Turn what decompressors and archive readers raise into one line that names the file."""
    try:
        yield
    except MemoryError:  # an LZMA header may ask for 4 GiB
        raise SeedbedError(f"{name}: damaged, or needs more memory than there is") from None
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
