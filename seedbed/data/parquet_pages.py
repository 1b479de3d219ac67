"""Pages of a parquet file: how large they are, read from their headers before anything is decompressed.

A value of a column is no larger than its largest page, in whatever encoding. The footer says the same of whole columns,
but need not be true; and pyarrow's own view of its columns ends the process where a footer makes no sense. Footer and
headers are structs of Thrift's compact protocol, and what is not understood raises ValueError.
"""

import io
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

FOOTER_BYTES = 16 << 20  # a longer footer is not understood
HEADER_BYTES = 1 << 14  # read for the header of a page; one with more statistics than that is not understood
ROW_GROUPS = 4  # fields of a footer, ..
COLUMNS = 1  # .. of a row group, ..
COLUMN = 3  # .. of a column chunk, ..
VALUES, DATA_OFFSET, DICTIONARY_OFFSET = 5, 9, 11  # .. of its metadata
UNCOMPRESSED, COMPRESSED, DATA, DICTIONARY, DATA_V2 = 2, 3, 5, 7, 8  # and of the header of a page
NOT_UNDERSTOOD = (IndexError, KeyError, TypeError, AttributeError, OverflowError, OSError, RecursionError)


class Chunk(NamedTuple):
    """A column of a row group: where its first page begins, and how many values it has."""

    start: int
    values: int


class Page(NamedTuple):
    values: int
    size: int  # in bytes, decompressed
    is_dictionary: bool


def row_groups(stream: BinaryIO) -> list[list[Chunk]]:
    """The column chunks of each row group, in the order of the columns."""
    try:
        stream.seek(-8, io.SEEK_END)
        length = int.from_bytes(stream.read(4), "little")
        if length > FOOTER_BYTES:
            raise ValueError(f"a footer of {length} bytes")
        stream.seek(-8 - length, io.SEEK_END)
        footer = read_struct(io.BytesIO(stream.read(length)))
        return [[chunk(column[COLUMN]) for column in group[COLUMNS]] for group in footer[ROW_GROUPS]]
    except NOT_UNDERSTOOD:
        raise ValueError("no footer") from None


def chunk(metadata: dict) -> Chunk:
    dictionary = metadata.get(DICTIONARY_OFFSET) or metadata[DATA_OFFSET]
    return Chunk(min(metadata[DATA_OFFSET], dictionary), metadata[VALUES])


def pages(stream: BinaryIO, chunk: Chunk) -> Iterator[Page]:
    """The pages of a column chunk in order, the dictionary first."""
    at, left = chunk
    while left > 0:
        try:
            stream.seek(at)
            window = io.BytesIO(stream.read(HEADER_BYTES))
            header = read_struct(window)
            (kind,) = header.keys() & {DATA, DICTIONARY, DATA_V2}
            size, stored, values = header[UNCOMPRESSED], header[COMPRESSED], header[kind][1]
            whole = min(size, stored, values) >= 0
        except NOT_UNDERSTOOD:
            raise ValueError(f"no page at byte {at}") from None
        if not whole:
            raise ValueError(f"a page with a negative size at byte {at}")
        yield Page(values, max(size, stored), kind == DICTIONARY)
        left -= 0 if kind == DICTIONARY else values
        at += window.tell() + stored


def read_struct(stream: BinaryIO) -> dict[int, Any]:
    """A struct of Thrift's compact protocol, by field number."""
    fields, number = {}, 0
    while head := stream.read(1)[0]:
        number = number + (head >> 4) if head >> 4 else zigzag(stream)
        fields[number] = read_value(stream, head & 15)
    return fields


def read_value(stream: BinaryIO, kind: int) -> Any:
    match kind:
        case 1 | 2:
            return kind == 1
        case 3:
            return stream.read(1)[0]
        case 4 | 5 | 6:
            return zigzag(stream)
        case 7:
            return stream.read(8)
        case 8:
            return stream.read(varint(stream))
        case 9:
            head = stream.read(1)[0]
            size = varint(stream) if head >> 4 == 15 else head >> 4
            return [read_value(stream, head & 15) for _ in range(size)]
        case 12:
            return read_struct(stream)
    raise ValueError(f"Thrift type {kind}, which parquet does not use")


def varint(stream: BinaryIO) -> int:
    value = shift = 0
    while True:
        byte = stream.read(1)[0]
        value |= (byte & 127) << shift
        if byte < 128:
            return value
        shift += 7


def zigzag(stream: BinaryIO) -> int:
    value = varint(stream)
    return value >> 1 ^ -(value & 1)
