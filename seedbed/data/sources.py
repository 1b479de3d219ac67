"""Sources of documents: wheels, URLs, local files and the hub, in plain, compressed or archived files.

Everything is read as a stream. Bad input raises SeedbedError with file and line or record, and so does a record of more
than `max_record_bytes`: memory is bounded by the largest record, whatever a file says.
"""

import glob
import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from seedbed.checksums import verify
from seedbed.data.archives import damage_reported, decompressed, streams
from seedbed.data.parquet import parquet_records
from seedbed.data.records import csv_records, decode, json_records, jsonl_records, numbered_lines, too_large, whole_text
from seedbed.data.texts import rendered
from seedbed.errors import SeedbedError

COMPRESSED = (".gz", ".xz", ".zst")
FORMATS = {".txt": "text", ".jsonl": "jsonl", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
READERS = {"jsonl": jsonl_records, "json": json_records, "csv": csv_records, "parquet": parquet_records}

# --- files -----------------------------------------------------------------------------------------------------------


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
    folder, slash, _ = above.rpartition("/")
    for top in glob.glob(folder or slash or ".") if recursive else []:
        for parent, names, _ in os.walk(top, followlinks=True):
            for link in (Path(parent, name) for name in names):
                if link.is_symlink() and link.resolve() in {folder.resolve() for folder in link.parents}:
                    raise SeedbedError(f"{link}: a link to a directory above it, which ** would follow without end")


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
    if downloaded:
        facts = {"bytes": downloaded.stat().st_size, "sha256": source["sha256"]}  # nobody states the size
        verify(downloaded, facts, downloaded)
    for path in [downloaded] if downloaded else local_files(source["files"]):
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
