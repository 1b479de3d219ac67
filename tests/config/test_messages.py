"""Whatever is written in place of a value, the message is one intelligible line with the path of the key."""

import re
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, changed, default_config

from seedbed.config.load import check
from seedbed.config.yaml_file import read_yaml
from seedbed.errors import SeedbedError

WRONG = [None, True, -1, 0, 1.5, float("nan"), float("inf"), 10**30, "x", "", "\ud800", "y" * 100_000]
WRONG += [
    [],
    [None],
    [[1]],
    {},
    {"a": 1},
    {1: 2},
    {True: 1},
    {None: 1},
    date(2026, 1, 2),
    datetime(2026, 1, 2, 3, 4),
    b"x",
]
# What pydantic says in the words of a programmer.
FOREIGN = re.compile(
    "input should|dictionary|instance|boolean|unable to|discriminator|after validation|tuple|string", re.I
)
DEFAULT = default_config()


def message(raw: dict) -> str | None:
    try:
        check(raw)
    except SeedbedError as error:
        return str(error)
    return None


def paths(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The paths of all values in a value."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield (*path, key)
        yield from paths(part, (*path, key))


def replaced(value: Any, path: tuple, new: Any) -> Any:
    if not path:
        return new
    made = value.copy()
    made[path[0]] = replaced(value[path[0]], path[1:], new)
    return made


def kind(raw: dict, path: tuple) -> tuple:
    """What is alike of a key in entries of the same kind."""
    if len(path) < 2:
        return path
    entry = raw[path[0]][path[1]]
    form = (entry.get("kind"), entry.get("objective"), "base" in entry) if isinstance(entry, dict) else ()
    return path[0], form, *(0 if isinstance(key, int) else key for key in path[2:])


def test_no_value_is_too_wrong_for_a_message() -> None:
    seen, messages = set(), 0
    for file in (ROOT / "config.yaml", *sorted((ROOT / "studies").rglob("*.yaml"))):
        raw = read_yaml(file)
        for path in paths(raw):
            if kind(raw, path) in seen:
                continue
            seen.add(kind(raw, path))
            for value in WRONG:
                text, place = message(replaced(raw, path, value)), ".".join(map(str, path))
                if text is not None:
                    where = text.removeprefix("config: ").split(": ")[0]
                    assert where.startswith(place) or place.startswith(where), text
                    assert "\n" not in text and len(text) < 400
                    assert not FOREIGN.search(text), text
                    messages += 1
    assert messages > 3000


MESSAGES = [
    ("runs.tiny.optimizer.betas", [], "runs.tiny.optimizer.betas: expected more values; found [] (and 1 more)"),
    ("runs.tiny.optimizer.betas", [0.9], "runs.tiny.optimizer.betas: expected more values; found [0.9]"),
    ("runs.tiny.optimizer.betas", [1, 2, 3], "runs.tiny.optimizer.betas: expected a list with a length of at most 2"),
    (
        "studies.batch-size.date",
        "2026-13-45",
        "studies.batch-size.date: expected a date, such as 2026-01-31; found '2026-",
    ),
    ("studies.batch-size.date", 0, "studies.batch-size.date: expected a date, such as 2026-01-31; found 0"),
    (
        "studies.batch-size.date",
        datetime(2026, 1, 2, 3),
        "studies.batch-size.date: expected a date, such as 2026-01-31",
    ),
    (
        "studies.batch-size.title",
        "a\ud800",
        "studies.batch-size.title: expected text of whole characters; found 'a\\ud800'",
    ),
    ("studies.batch-size.title", 5, "studies.batch-size.title: expected text; found 5"),
    ("runs.tiny.objective", [], "runs.tiny: objective: found []; valid: lm, icae, thinker"),
    ("runs.tiny.schedule", {"min_lr_ratio": 0}, "runs.tiny.schedule.kind: missing"),
    (
        "evaluations.history.length",
        0,
        "evaluations.history.length: expected a value greater than or equal to 1; found 0",
    ),
    (
        "evaluations.history.history",
        0,
        "evaluations.history.history: expected a value greater than or equal to 1; found",
    ),
]


@pytest.mark.parametrize(("path", "value", "told"), MESSAGES, ids=[f"{path}={value!r}" for path, value, _ in MESSAGES])
def test_what_is_told(path: str, value: Any, told: str) -> None:
    assert message(changed(DEFAULT, path, value)).startswith(f"config: {told}")


@pytest.mark.parametrize("key", [True, None, 5, 1.5])
def test_a_key_that_is_no_text_is_told(key: Any) -> None:
    rule = f"expected text as a key, in quotes where YAML reads something else; found {key!r}"
    assert message(DEFAULT | {key: {}}) == f"config: {key}: {rule}"
    assert message(DEFAULT | {"runs": {key: DEFAULT["runs"]["tiny"]}}).startswith(f"config: runs.{key}: {rule}")
    within = {"objective": "lm", key: 1}
    assert message(DEFAULT | {"runs": {"a": within}}).startswith(f"config: runs.a.{key}: {rule}")


def test_keys_of_yaml_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("on: {}")
    assert message(read_yaml(tmp_path / "a.yaml")).startswith("config: True: expected text as a key")


def test_names_of_absurd_length_are_cut() -> None:
    assert len(message(DEFAULT | {"runs": {"a" * 10**6: {}}})) < 400
    assert len(message(DEFAULT | {"a" * 10**6: {}})) < 400
