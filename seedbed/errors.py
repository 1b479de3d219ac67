"""The one exception whose message is meant for users."""

from collections.abc import Iterable
from difflib import get_close_matches


class SeedbedError(Exception):
    """A mistake of the user or of the data; its message is one line: what, where, found, expected, nearest valid."""


def choices(found: str, valid: Iterable[str]) -> str:
    """Hint at valid values: `; did you mean 'x'?` when one is near, otherwise all of them."""
    valid = [str(name) for name in valid]
    near = get_close_matches(str(found), valid, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; valid: {', '.join(valid)}" if valid else "; none is defined"
