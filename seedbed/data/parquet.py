"""Rows of parquet files, in memory that their largest page bounds."""

from collections.abc import Iterator
from typing import Any, BinaryIO

from seedbed.data.parquet_pages import Chunk, pages, row_groups
from seedbed.data.records import too_large
from seedbed.data.texts import no_field, template_fields
from seedbed.errors import SeedbedError, shown

BLOCK = 1 << 20  # bytes of a column that are looked at together
SLACK = 16  # bytes of a page, and of each of its values, besides text
PARQUET_BYTES = 48 << 20  # of a column that are decompressed together, if its values are no larger
PARQUET_ROWS = 1000


def parquet_records(name: str, stream: BinaryIO, spec: dict) -> Iterator[dict]:
    """Rows with the fields that the text needs, decompressed as many at once as is known to take bounded memory."""
    import pyarrow
    import pyarrow.parquet

    if not seekable(stream):
        raise SeedbedError(f"{name}: parquet needs a file that can be read from any place; expected a plain one")
    most, fields, number = spec["max_record_bytes"], template_fields(spec["text"]), 0
    try:
        file = pyarrow.parquet.ParquetFile(stream, buffer_size=BLOCK)
        if file.metadata.num_rows:
            check_columns(f"{name}: record 1", fields, file.schema_arrow)
        chunks = chunks_of(stream, file, fields)
        for group in range(file.num_row_groups):
            rows = (
                rows_at_once(stream, chunks[group], f"{name}: record {number + 1} or one after it", most)
                if chunks
                else 1
            )
            for batch in file.iter_batches(rows, row_groups=[group], columns=fields):
                try:
                    records = batch.to_pylist()
                except UnicodeDecodeError as error:
                    where, byte = f"records {number + 1} to {number + len(batch)}", error.object[error.start]
                    raise SeedbedError(f"{name}: {where}: not UTF-8 (byte 0x{byte:02x})") from None
                number += len(batch)
                del batch  # before the next one is made
                yield from records
                del records
    except pyarrow.ArrowException as error:
        raise SeedbedError(f"{name}: truncated or damaged parquet file: {error}") from None


def seekable(stream: BinaryIO) -> bool:
    try:
        return stream.seekable()
    except AttributeError:  # that of a member of a tar archive asks what has none
        return False


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
            if page.size > page.values * (most + SLACK) + SLACK:
                raise too_large(where, most)
            largest = max(largest, page.size)
    except ValueError:
        return 1
    return max(1, min(PARQUET_ROWS, PARQUET_BYTES // largest))
