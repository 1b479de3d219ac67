import gzip
import hashlib
import io
import json
import lzma
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pandas as pd
import pytest
import zstandard
from support import corpus_spec

from seedbed.data import sources
from seedbed.data.sources import documents, download, download_url, local_files, split_documents
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
    spec = corpus_spec(source={"url": "https://example.org/x", "sha256": "0" * 64, "member": member})
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
    ],
)
def test_bad_text_is_told_with_file_and_line(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SeedbedError) as caught:
        read(tmp_path / name)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pattern_without_files_is_told(tmp_path: Path) -> None:
    with pytest.raises(SeedbedError, match="no such file"):
        local_files(f"{tmp_path}/*.txt")


# --- downloading -----------------------------------------------------------------------------------------------------

CONTENT = bytes(range(256)) * 4000
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()


class Server(BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; breaks off the first `breaks` answers half-way."""

    breaks = 0
    ranges: list[str | None] = []

    def do_GET(self) -> None:
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


def test_a_wheel_is_fetched_through_pip_and_read(wheel_index: Path, tmp_path: Path) -> None:
    source = {"package": "textwheel==1.0", "sha256": sources.sha256(wheel_index), "member": "textwheel/*.jsonl"}
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


def test_a_hub_dataset_out_of_reach_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    spec = corpus_spec(source={"hub": "nobody/nothing", "revision": "main"})
    with pytest.raises(SeedbedError, match="hub dataset nobody/nothing") as caught:
        list(documents(spec))
    assert "\n" not in str(caught.value)
