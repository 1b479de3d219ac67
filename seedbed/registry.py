"""Kinds that plug in: by name, where the class of each is; those of the project, then those of installed packages.

A package adds a kind by an entry point, of the group `seedbed.objectives` or `seedbed.evaluations`, that names its
config class (docs/extending.md).
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, get_args

from seedbed.errors import SeedbedError, first_line


def located(where: str) -> Any:
    """What `module:name` says; its module is imported here and no sooner, so that a name costs nothing."""
    module, _, name = where.partition(":")
    return getattr(import_module(module), name)


class Registry(Mapping[str, type]):
    """Config classes by name, each imported when it is asked for.

    All are subclasses of what `base` locates, and their field `key` is the name. Raises SeedbedError where a package
    has a kind that is not, cannot be imported, or has a name that is taken.
    """

    def __init__(self, group: str, base: str, key: str, own: dict[str, str]) -> None:
        self.group, self.base, self.key, self.own = group, base, key, own

    @cached_property
    def places(self) -> dict[str, str]:
        """`module:name` of each."""
        found = dict(self.own)
        for point in entry_points(group=self.group):
            if point.name in found:
                raise SeedbedError(f"{self.entry(point.name, point.value)}: the name is taken by {found[point.name]}")
            found[point.name] = point.value
        return found

    def entry(self, name: str, place: str) -> str:
        """How an entry point is written in a package."""
        return f"entry point {self.group}: {name} = {place!r}"

    def package(self, name: str) -> str:
        """The package of a kind, whose modules have the rest of it."""
        return self.places[name].partition(":")[0].rpartition(".")[0]

    def __getitem__(self, name: str) -> type:
        place = self.places[name]
        if name in self.own:
            return located(place)
        try:
            kind, base = located(place), located(self.base)
        except Exception as error:  # a package's own modules raise what they like
            reason = first_line(error)
            raise SeedbedError(f"{self.entry(name, place)}: cannot be imported: {reason}") from None
        if not (isinstance(kind, type) and issubclass(kind, base)):
            raise SeedbedError(f"{self.entry(name, place)}: expected a subclass of {self.base.replace(':', '.')}")
        if (found := get_args(kind.model_fields[self.key].annotation)) != (name,):
            said = f"Literal[{', '.join(map(repr, found))}]" if found else "no Literal"
            raise SeedbedError(f"{self.entry(name, place)}: its {self.key} is {said}; expected Literal[{name!r}]")
        return kind

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)
