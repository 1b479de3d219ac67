"""Data flows downwards: imports form no circle, and nothing above an objective or an evaluation knows it by name."""

import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from textwrap import dedent

import pytest
from support import ROOT

from seedbed.errors import SeedbedError
from seedbed.evaluate import EVALUATIONS
from seedbed.evaluate.job import modules_of, subject_class
from seedbed.imports import PLUMBING, folder_of, imported, sources
from seedbed.report.kinds import report_module

LIBRARY = ROOT / "seedbed"
HEAVY = {"torch", "transformers", "deepspeed", "datasets", "matplotlib", "pandas", "pyarrow"}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in LIBRARY.rglob("*.py")}


def imported_by(module: str) -> set[str]:
    """The modules of the library that a module imports, anywhere but for its annotations."""
    return {name if name in MODULES else name.rpartition(".")[0] for name in imported(module)} & MODULES.keys()


def test_imports_form_no_circle() -> None:
    graph = {name: imported_by(name) - {name} for name in MODULES}
    assert list(TopologicalSorter(graph).static_order())  # CycleError names a circle


@pytest.mark.parametrize(
    "module", ["seedbed.config.load", "seedbed.plan", "seedbed.plan.specs", "seedbed.plan.forecast"]
)
def test_a_plan_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*{HEAVY!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


KINDS = [path.name for room in ("objectives", "evaluate") for path in (LIBRARY / room).iterdir() if path.is_dir()]


@pytest.mark.parametrize("room", ["config", "data", "models", "train", "plan", "report"])
def test_no_room_imports_a_kind(room: str) -> None:
    for name in MODULES:
        if name.startswith(f"seedbed.{room}"):
            imports = [one.split(".")[1:] for one in imported_by(name)]
            kinds = {parts[1] for parts in imports if parts[:1] in (["objectives"], ["evaluate"]) and parts[1:]}
            assert not kinds & set(KINDS), name


# --- what rules watch ------------------------------------------------------------------------------------------------


def test_the_sources_of_a_module_are_what_it_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "mine/__init__.py": "import mine.always",
        "mine/start.py": """
            from typing import TYPE_CHECKING
            from mine import parts, name
            from .sub.deep import something
            from seedbed.files import read_json
            import json, missing.module
            if TYPE_CHECKING:
                import mine.typed
            def later():
                from seedbed.iterate import batched
        """,
        "mine/parts.py": "from . import start, other",  # a circle
        "mine/always.py": "",
        "mine/other.py": "",
        "mine/typed.py": "",
        "mine/unused.py": "",
        "mine/sub/deep.py": "from .. import always",  # in a directory without __init__.py
        "elsewhere.py": "import mine.start",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    mine = {tmp_path / "mine" / f"{name}.py" for name in ("__init__", "start", "parts", "always", "other", "sub/deep")}
    assert set(sources("mine.start")) == mine | {LIBRARY / "iterate.py"}
    assert set(sources("elsewhere")) == {tmp_path / "elsewhere.py"}  # of a package of its own
    assert set(sources("elsewhere", "mine.start")) == {tmp_path / "elsewhere.py"} | set(sources("mine.start"))
    with pytest.raises(SeedbedError, match=r"^module mine\.nowhere: not found; expected \S+mine/nowhere\.py$"):
        sources("mine.nowhere")
    (tmp_path / "broken.py").write_text("import json\ndef (")
    with pytest.raises(SeedbedError, match=r"broken\.py, line 2: invalid syntax$"):
        sources("broken")
    assert sources("seedbed.files") == []  # plumbing
    assert "mine" not in sys.modules


@pytest.mark.parametrize("kind", EVALUATIONS)
def test_code_that_measures_and_code_that_shows_are_apart(kind: str) -> None:
    measured = set(sources(*modules_of(kind)))
    package = folder_of(EVALUATIONS.package(kind))
    assert {package / "measure.py", MODULES[subject_class(kind).partition(":")[0]]} <= measured
    assert not any((LIBRARY / room) in path.parents for path in measured for room in ("report", "plan", "train"))
    assert package / "report.py" not in measured
    assert package / "measure.py" not in sources(report_module(kind))


def test_plumbing_is_there() -> None:
    assert MODULES.keys() >= PLUMBING
