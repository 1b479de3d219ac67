"""A file that is no configuration is one line with the file, the key and the line; nothing of it fills the memory."""

import json
import tracemalloc
from pathlib import Path

import pytest
import yaml
from support import ROOT

from seedbed.config import yaml_file
from seedbed.config.yaml_file import read_yaml
from seedbed.errors import SeedbedError

LETTERS = "abcdefghijklmnop"
LISTS = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(9 * [f'*{old}'])}]\n" for old, new in zip(LETTERS, LETTERS[1:], strict=False)
)
MAPPINGS = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new} {{{', '.join(f'k{key}: *{old}' for key in range(9))}}}\n"
    for old, new in zip(LETTERS, LETTERS[1:], strict=False)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join(9 * [f'*{old}'])}]}}\n" for old, new in zip(LETTERS, LETTERS[1:], strict=False)
)

MISTAKES = {
    "a key twice": ("runs:\n  a: 1\n  b: 2\n  a: 3\n", "runs.a: line 4: written in line 2 already"),
    "a top-level key twice": ("runs: 1\nruns: 2\n", "runs: line 2: written in line 1 already"),
    "a key twice in a list": ("a:\n- b: 1\n- {c: 1, 'c': 2}", "a.1.c: line 3: written in line 3 already"),
    "a key twice as YAML reads it": ("on: 1\nyes: 2", "yes: line 2: written in line 1 already"),
    "not YAML": ("a: [", "not valid YAML: line 2, column 1: while parsing a flow node"),
    "a tab": ("a:\n\tb: 1", "not valid YAML: line 2, column 1"),
    "several documents": ("a: 1\n---\nb: 1", "not valid YAML: line 2, column 1: expected a single document"),
    "a tag": ("a: {b: !mine 1}", "a.b: line 1: could not determine a constructor for the tag '!mine'"),
    "an object": ("a: !!python/object:os.system 1", "a: line 1: could not determine a constructor"),
    "an unknown alias": ("a: *b", "not valid YAML: line 1, column 4: found undefined alias"),
    "an alias in itself": ("a: &x [*x]", "a.0: line 1: contains itself"),
    "lists without end": (LISTS, "g: line 7: stands for more than 1,000,000 values"),
    "mappings without end": (MAPPINGS, "g: line 7: stands for more than 1,000,000 values"),
    "merges without end": (MERGES, "g.<<: line 7: stands for more than 1,000,000 values"),
    "deep": ("[" * 200_000, "line 1: values nest deeper than 100"),
    "deep in blocks": ("- " * 200_000, "line 1: values nest deeper than 100"),
    "NUL": ("a: \0", "not valid YAML: unacceptable character #x0000"),
    "half of a surrogate pair": ('a: "\\ud800"', "not valid YAML: line 1, column 7"),
    "no date": ("a: {date: 2026-13-45}", "a.date: line 1: found '2026-13-45', which is no date (month must be"),
    "no number": ("a: 0x_", "a: line 1: found '0x_', which is no whole number"),
    "digits without end": (f"a: {'9' * 5000}", "a: line 1: found '999"),
    "a list as a key": ("a: {? [1] : 2}", "a: line 1: a key is a mapping or a list; expected text"),
    "a list": ("- 1", "found [1], expected a mapping with keys such as runs"),
    "a scalar": ("x", "found 'x', expected a mapping"),
    "false": ("false", "found False, expected a mapping"),
}


def told(path: Path) -> str:
    with pytest.raises(SeedbedError) as caught:
        read_yaml(path)
    return str(caught.value)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, mistake: str) -> None:
    text, expected = MISTAKES[mistake]
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    tracemalloc.start()
    message = told(tmp_path / "a.yaml")
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()
    assert message.startswith(f"{tmp_path}/a.yaml: {expected}")
    assert "\n" not in message and len(message) < 400


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"a: 1\nb: \xff")
    assert told(tmp_path / "a.yaml") == f"{tmp_path}/a.yaml: line 2: not UTF-8 (byte 0xff)"
    assert told(tmp_path) == f"{tmp_path}: Is a directory"
    assert told(tmp_path / "absent") == f"{tmp_path}/absent: no such file"


RIGHT = [
    ("", {}),
    ("# nothing\n", {}),
    ("\ufeffa: 1", {"a": 1}),
    ('{\n\t"a": 1}', {"a": 1}),
    ("x: &x {a: 1, b: 2}\ny: {<<: *x, a: 3}", {"x": {"a": 1, "b": 2}, "y": {"a": 3, "b": 2}}),
    ("x: &x [1]\ny: [*x, *x]", {"x": [1], "y": [[1], [1]]}),
    ("a: {k: 1}\nb: {k: 1}", {"a": {"k": 1}, "b": {"k": 1}}),
]


@pytest.mark.parametrize(("text", "expected"), RIGHT, ids=[json.dumps(text) for text, _ in RIGHT])
def test_what_is_right_is_read(tmp_path: Path, text: str, expected: dict) -> None:
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml") == expected


@pytest.mark.parametrize(
    "path", [ROOT / "config.yaml", *sorted((ROOT / "studies").rglob("*.yaml"))], ids=lambda p: p.stem
)
def test_configurations_are_read_as_by_yaml(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_yaml(path) == yaml.safe_load(path.read_text(encoding="utf-8"))
    monkeypatch.setattr(yaml_file, "Loader", yaml.SafeLoader)  # without libyaml
    assert read_yaml(path) == yaml.safe_load(path.read_text(encoding="utf-8"))
