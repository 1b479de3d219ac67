"""Data flows downwards: imports form no circle, and nothing above an objective or an evaluation knows it by name."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from support import ROOT

LIBRARY = ROOT / "seedbed"
HEAVY = {"torch", "transformers", "deepspeed", "datasets", "matplotlib", "pandas", "pyarrow"}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in LIBRARY.rglob("*.py")}


def is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imported(node: ast.AST) -> set[str]:
    """The modules of the library that a module imports, anywhere but for its annotations."""
    found = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ImportFrom):
            names = {f"{child.module}.{name.name}" for name in child.names}
            found |= names if names <= MODULES.keys() else names | {child.module}
        elif isinstance(child, ast.Import):
            found |= {name.name for name in child.names}
        elif not is_for_types_only(child):
            found |= imported(child)
    return found & MODULES.keys()


def test_imports_form_no_circle() -> None:
    graph = {name: imported(ast.parse(path.read_text(encoding="utf-8"))) - {name} for name, path in MODULES.items()}
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
    for name, path in MODULES.items():
        if name.startswith(f"seedbed.{room}"):
            found = imported(ast.parse(path.read_text(encoding="utf-8")))
            kinds = {
                one for one in found if one.split(".")[1] in ("objectives", "evaluate") and len(one.split(".")) > 2
            }
            assert not {one for one in kinds if one.split(".")[2] in KINDS}, name
