"""Kinds of installed packages: found by their entry points, and told in one line where they are at fault."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from seedbed import registry
from seedbed.errors import SeedbedError
from seedbed.objectives import OBJECTIVES
from seedbed.registry import Registry

KIND = """
from typing import Literal

from seedbed.config.run import Run


class LineRun(Run):
    objective: Literal["line"]
"""


@pytest.fixture
def kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The registry of objectives with one entry point of a package."""
    (tmp_path / "fitted_lines.py").write_text(KIND)
    monkeypatch.syspath_prepend(tmp_path)

    def made(name: str, place: str) -> Registry:
        point = EntryPoint(name, place, OBJECTIVES.group)
        monkeypatch.setattr(registry, "entry_points", lambda group: [point])
        return Registry(OBJECTIVES.group, OBJECTIVES.base, OBJECTIVES.key, OBJECTIVES.own)

    yield made
    sys.modules.pop("fitted_lines", None)


def test_a_kind_of_a_package_stands_beside_those_of_the_project(kinds) -> None:
    found = kinds("line", "fitted_lines:LineRun")
    assert list(found) == [*OBJECTIVES.own, "line"]
    assert found["line"].__name__ == "LineRun"
    assert found["lm"] is OBJECTIVES["lm"]


@pytest.mark.parametrize(
    ("name", "place", "told"),
    [
        ("lm", "fitted_lines:LineRun", "the name is taken by seedbed.objectives.lm.config:LanguageModelRun"),
        ("line", "fitted_line:LineRun", "cannot be imported: No module named 'fitted_line'"),
        ("line", "fitted_lines:Line", "cannot be imported: module 'fitted_lines' has no attribute 'Line'"),
        ("line", "json:JSONDecoder", "expected a subclass of seedbed.config.run.Run"),
        ("lines", "fitted_lines:LineRun", "its objective is Literal['line']; expected Literal['lines']"),
    ],
)
def test_a_kind_at_fault_is_one_line(kinds, name: str, place: str, told: str) -> None:
    with pytest.raises(SeedbedError) as caught:
        dict(kinds(name, place))
    assert str(caught.value) == f"entry point seedbed.objectives: {name} = {place!r}: {told}"
