"""The source files that a module depends on, found without running any: what a rule watches.

Imports are followed wherever they stand in a file, inside functions too, but for those that serve annotations only. A
module that is named by a string (`seedbed.registry.located`) is not followed: who names it watches it, too.
"""

import ast
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from seedbed.errors import SeedbedError

# What decides no figure: how errors, progress and the command line are worded, how files are written, where kinds are
# found, what a configuration may say (its values are in the specs). Editing these measures and draws nothing again.
PLUMBING = {
    "seedbed",
    "seedbed.cli",
    "seedbed.config",
    "seedbed.config.fields",
    "seedbed.errors",
    "seedbed.evaluate",
    "seedbed.files",
    "seedbed.hardware",
    "seedbed.imports",
    "seedbed.objectives",
    "seedbed.progress",
    "seedbed.registry",
}


def sources(*modules: str) -> list[Path]:
    """The files of these modules and of all that they import, themselves or through others, packages included.

    Only files of the top-level packages of `modules` and of `seedbed` count, without `PLUMBING`. Raises SeedbedError
    where one of `modules` is not there, or a file is no Python.
    """
    tops = {"seedbed", *(module.partition(".")[0] for module in modules)}
    found, waiting = {}, list(modules)
    while waiting:
        module = waiting.pop()
        if module.partition(".")[0] in tops and module not in PLUMBING and module not in found:
            found[module] = file_of(module)
            waiting += [module.rpartition(".")[0], *(imported(module) if found[module] else ())]
    for module in modules:
        if not file_of(module):
            raise SeedbedError(f"module {module}: not found; expected {folder_of(module)}.py")
    return sorted({path for path in found.values() if path})


def folder_of(package: str) -> Path:
    """The directory of a package, which is not imported for it."""
    top, *rest = package.split(".")
    spec = find_spec(top)
    if spec and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)), *rest)
    return Path(spec.origin).with_suffix("") if spec and spec.origin else Path(top, *rest)


@cache
def file_of(module: str) -> Path | None:
    """The source file of a module or package; None where there is none, as for a name in a module."""
    folder = folder_of(module)
    return next((path for path in (folder.with_suffix(".py"), folder / "__init__.py") if path.is_file()), None)


@cache
def imported(module: str) -> frozenset[str]:
    """What a module imports, by full name: modules, and names that may be modules."""
    path = file_of(module)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    try:
        return frozenset(names(ast.parse(path.read_text(encoding="utf-8")), package))
    except SyntaxError as error:
        raise SeedbedError(f"{path}, line {error.lineno}: {error.msg}") from None
    except ValueError as error:  # not UTF-8, or a null byte
        raise SeedbedError(f"{path}: {error}") from None


def names(node: ast.AST, package: str) -> Iterator[str]:
    """What the import statements below a node name; what comes from a module may be a module of its own."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = package.rsplit(".", child.level - 1)[0] if child.level else ""
            source = ".".join(filter(None, (base, child.module)))
            yield from (f"{source}.{alias.name}" for alias in child.names)
        elif not is_for_annotations(child):
            yield from names(child, package)


def is_for_annotations(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
