"""Registries of kinds that plug in: the class of each by name, from the project and from installed packages.

A package adds a kind by an entry point in the group `seedbed.objectives` or `seedbed.evaluations` that names its config
class (docs/extending.md).
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any


def located(where: str) -> Any:
    """Import what `module:name` refers to; the module is not loaded before, so that listing names is cheap."""
    module, _, name = where.partition(":")
    return getattr(import_module(module), name)


class Registry(Mapping[str, type]):
    """Classes by name, each imported on access."""

    def __init__(self, group: str, own: dict[str, str]) -> None:
        self.group, self.own = group, own

    @cached_property
    def places(self) -> dict[str, str]:
        """`module:name` of each; a package cannot replace a kind of the project."""
        return {point.name: point.value for point in entry_points(group=self.group)} | self.own

    def package(self, name: str) -> str:
        """The Python package of a kind, which holds its other modules."""
        return self.places[name].partition(":")[0].rpartition(".")[0]

    def __getitem__(self, name: str) -> type:
        return located(self.places[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)
