"""The JSON files between stages: of one type, with a checksum of themselves."""

import json
from pathlib import Path
from typing import NotRequired

import pytest

from seedbed.errors import SeedbedError
from seedbed.records import Record, read_record, sealed, write_record


class Inner(Record):
    count: int


class Kind(Record):
    name: str
    share: float
    inner: dict[str, Inner]
    more: NotRequired[int]


VALUE = {"name": "中\x00", "share": 0.1, "inner": {"a": {"count": 3}}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_record(tmp_path / "stats.json", Kind, VALUE)
    return tmp_path / "stats.json"


def test_what_was_written_is_read(path: Path) -> None:
    assert read_record(path, Kind) == VALUE
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))  # spelled otherwise
    assert read_record(path, Kind) == VALUE


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("null", "found NoneType, expected a mapping"),
        ("[1]", "found list, expected a mapping"),
        ("{}", "has no key 'checksum'"),
        ('{"checksum": 1}', "its contents are not those of its checksum"),
        ("9" * 5000, "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        *(('{"checksum": "x", "a": ' + "[" * deep + "]" * deep + "}", "") for deep in range(900, 1000, 3)),
        ('{"checksum": "x", "a": NaN}', "not valid JSON (found NaN)"),
        ('{"checksum": "x", "a": -Infinity}', "not valid JSON (found -Infinity)"),
        ('{"checksum": "\\ud800", "a": "\\ud800"}', "its contents are not those of its checksum"),
        (b"\xff\xfe", "not valid JSON"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_other_files_are_one_line(path: Path, text: str | bytes, told: str) -> None:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SeedbedError) as caught:
        read_record(path, Kind)
    assert str(caught.value).startswith(f"{path}: ") and told in str(caught.value)


def test_any_change_of_its_contents_is_found(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for place, character in enumerate(text):
        if character.isspace():
            continue
        path.write_text(text[:place] + ("1" if character != "1" else "2") + text[place + 1 :], encoding="utf-8")
        with pytest.raises(SeedbedError):
            read_record(path, Kind)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"share": "x"}, "share: "),
        ({"inner": {"a": {"count": 1.5}}}, "inner.a.count: "),
        ({"inner": {"a": {}}}, "inner.a.count: missing"),
        ({"extra": 1}, "extra: "),
        ({"more": None}, "more: "),
    ],
    ids=str,
)
def test_another_type_is_told_with_the_key(path: Path, changes: dict, told: str) -> None:
    path.write_text(json.dumps(sealed(VALUE | changes)))
    with pytest.raises(SeedbedError) as caught:
        read_record(path, Kind)
    assert str(caught.value).startswith(f"{path}: {told}")


def test_a_writer_is_held_to_the_type(tmp_path: Path) -> None:
    with pytest.raises(SeedbedError, match="inner: missing"):
        write_record(tmp_path / "a.json", Kind, {"name": "a", "share": 1.0})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_record(tmp_path / "a.json", Kind, VALUE | {"share": float("nan")})
    assert not (tmp_path / "a.json").exists()
