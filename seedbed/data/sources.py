"""Sources of documents: wheels, URLs, local files and the hub, in plain, compressed or archived files.

Everything is read as a stream; archives are never unpacked. Bad input raises SeedbedError with file and line or record.
"""

import csv
import fnmatch
import glob
import gzip
import io
import json
import lzma
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from string import Formatter
from typing import Any, BinaryIO

from seedbed.checksums import sha256
from seedbed.errors import SeedbedError, choices
from seedbed.files import replacing
from seedbed.iterate import batched
from seedbed.progress import progress

COMPRESSED = (".gz", ".xz", ".zst")
FORMATS = {".txt": "text", ".jsonl": "jsonl", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
# RuntimeError is what zipfile raises for an encrypted member.
DAMAGE = (EOFError, OSError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, csv.Error)
ATTEMPTS = 5

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
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--no-input", "--only-binary", ":all:", "--dest", folder, package]
        print(f"pip downloads {package}", file=sys.stderr, flush=True)
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no reason given"]
            raise SeedbedError(f"cannot download {package} (is there a network?): pip reports {reasons[-1]}")
        (wheel,) = Path(folder).iterdir()
        check_sha256(wheel, checksum, package)
        with replacing(target) as partial:
            partial.write_bytes(wheel.read_bytes())


def download_url(url: str, checksum: str, target: Path, pause: float = 1.0) -> None:
    """Fetch a URL, resuming an interrupted download; `pause` seconds, doubling, between attempts."""
    partial = target.with_name(f".{target.name}.download")
    partial.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(ATTEMPTS):
        try:
            fetch_rest(url, partial)
            break
        except (OSError, HTTPException) as error:
            if attempt == ATTEMPTS - 1 or getattr(error, "code", 500) in (401, 403, 404, 410):
                raise SeedbedError(f"cannot download {url}: {error}; the same command resumes it") from None
            time.sleep(pause * 2**attempt)
    try:
        check_sha256(partial, checksum, url)
    except SeedbedError:
        partial.unlink()
        raise
    partial.replace(target)


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
    with response, partial.open("ab" if response.status == 206 else "wb") as stream:
        expected = int(response.headers.get("Content-Length") or -1)
        received, whole = 0, have + expected if response.status == 206 else expected
        shown = {"what": url.rpartition("/")[2], "unit": "B", "unit_scale": True, "initial": max(0, whole - expected)}
        with progress(total=whole if expected >= 0 else None, **shown) as bar:
            while block := response.read(1 << 20):
                stream.write(block)
                received += len(block)
                bar.update(len(block))
    if expected >= 0 and received < expected:
        raise OSError(f"connection closed after {received} of {expected} bytes")


def check_sha256(path: Path, expected: str, what: str) -> None:
    found = sha256(path)
    if found != expected:
        raise SeedbedError(f"{what}: wrong sha256: found {found}, expected {expected}")


# --- files and archives ----------------------------------------------------------------------------------------------


def local_files(patterns: str | list[str]) -> list[Path]:
    """Files that match `patterns` (paths, directories, globs), sorted; every pattern must match something."""
    found = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        paths = [Path(path) for path in [pattern] if Path(path).exists()] or [
            Path(path) for path in glob.glob(pattern, recursive=True)
        ]
        inside = [file for path in paths if path.is_dir() for file in path.rglob("*") if format_of(file.name)]
        matches = [file for file in [*paths, *inside] if file.is_file()]
        if not matches:
            where = "" if Path(pattern).is_absolute() else f" (relative to {Path.cwd()})"
            known = ", ".join(FORMATS)
            raise SeedbedError(f"{pattern}: no such file, or a directory without {known} files{where}")
        found += matches
    return sorted(set(found))


@contextmanager
def damage_reported(name: str) -> Iterator[None]:
    """Turn what decompressors and archive readers raise into one line that names the file."""
    try:
        yield
    except DAMAGE as error:
        raise SeedbedError(f"{name}: truncated or damaged: {error}") from None


def streams(path: Path, member: str | None) -> Iterator[tuple[str, BinaryIO]]:
    """Names and bytes of a file, or of the members of a zip or tar archive that match the glob `member`."""
    if member is None:
        with path.open("rb") as stream:
            yield str(path), stream
        return
    members = zip_members if zipfile.is_zipfile(path) else tar_members
    found = False
    with damage_reported(str(path)):
        for name, stream in members(path):
            if fnmatch.fnmatch(name, member):
                found = True
                yield f"{path}:{name}", stream
    if not found:
        raise SeedbedError(f"{path}: no member matches {member!r}")


def zip_members(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    with zipfile.ZipFile(path) as archive:
        for info in sorted(archive.infolist(), key=lambda info: info.filename):
            if not info.is_dir():
                with archive.open(info) as stream:
                    yield info.filename, stream


def tar_members(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    with tarfile.open(path, "r|*") as archive:
        for info in archive:
            if info.isfile():
                yield info.name, archive.extractfile(info)


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
        yield from rendered(hub_records(source), spec["text"], source["hub"])
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
                yield decode(name, stream.read())
            case "lines" | "tagged-lines":
                lines = utf8_lines(name, stream)
                lines = map(untagged, lines) if kind == "tagged-lines" else lines
                for block in batched((line for line in lines if line.strip()), spec["lines_per_document"]):
                    yield "\n".join(line.rstrip("\r\n") for line in block)
            case _:
                yield from rendered(READERS[kind](name, stream), spec["text"], name)


def decode(name: str, raw: bytes, first_line: int = 1) -> str:
    try:
        return raw.decode("utf-8-sig" if first_line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line = first_line + raw.count(b"\n", 0, error.start)
        raise SeedbedError(f"{name}: line {line}: not UTF-8 (byte 0x{raw[error.start]:02x})") from None


def utf8_lines(name: str, stream: BinaryIO) -> Iterator[str]:
    for number, line in enumerate(io.BufferedReader(stream), start=1):
        yield decode(name, line, number)


def untagged(line: str) -> str:
    """A line of `word/pos  word/pos` as plain text: drop what follows the last slash of each word, join."""
    return "".join(word.rpartition("/")[0] or word for word in line.split())


def jsonl_records(name: str, stream: BinaryIO) -> Iterator[Any]:
    for number, line in enumerate(utf8_lines(name, stream), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise SeedbedError(f"{name}: line {number}: not valid JSON ({error.msg})") from None


def json_records(name: str, stream: BinaryIO) -> Iterator[Any]:
    try:
        value = json.loads(decode(name, stream.read()))
    except json.JSONDecodeError as error:
        raise SeedbedError(f"{name}: line {error.lineno}: not valid JSON ({error.msg})") from None
    yield from value if isinstance(value, list) else [value]


def csv_records(name: str, stream: BinaryIO) -> Iterator[dict]:
    csv.field_size_limit(1 << 30)  # documents are longer than csv's default limit
    yield from csv.DictReader(utf8_lines(name, stream))


def parquet_records(name: str, stream: BinaryIO) -> Iterator[dict]:
    import pyarrow
    import pyarrow.parquet

    try:
        for batch in pyarrow.parquet.ParquetFile(stream).iter_batches(1000):
            yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise SeedbedError(f"{name}: truncated or damaged parquet file: {error}") from None


READERS = {"jsonl": jsonl_records, "json": json_records, "csv": csv_records, "parquet": parquet_records}


def hub_records(source: dict) -> Iterator[dict]:
    import datasets

    options = {"split": source["split"], "revision": source["revision"], "streaming": True}
    try:
        yield from datasets.load_dataset(source["hub"], source["name"], **options)
    except Exception as error:  # its own errors, and those of urllib, pyarrow and fsspec
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SeedbedError(f"hub dataset {source['hub']} (split {source['split']}): {reason}") from None


def rendered(records: Iterable[Any], text: str, name: str) -> Iterator[str]:
    """Texts of records: a plain string as it is, else the field `text`, or the template if it has {fields}."""
    fields = [name for _, name, _, _ in Formatter().parse(text) if name]
    for number, record in enumerate(records, start=1):
        if isinstance(record, str):
            yield record
            continue
        where = f"{name}: record {number}"
        if not isinstance(record, dict):
            raise SeedbedError(f"{where}: expected an object or a string, found {type(record).__name__}")
        try:
            value = text.format_map(record) if "{" in text else record[text]
        except KeyError as missing:
            raise SeedbedError(f"{where}: no field {missing}{choices(missing.args[0], record)}") from None
        if not isinstance(value, str):
            raise SeedbedError(f"{where}: field {text!r} is {type(value).__name__}, expected text")
        if any(record[field] is None for field in fields):
            raise SeedbedError(f"{where}: a field of {text!r} is null, expected text")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise SeedbedError(f"{where}: half of a surrogate pair at character {error.start}") from None
        yield value
