"""The one exception whose message is meant for users."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

LONGEST = 390  # characters of a message: 400 with `error: ` before it
LISTED = 12  # names that a hint lists


class SeedbedError(Exception):
    """A mistake of the user or of the data; its message is one line: what, where, found, expected, nearest valid."""

    def __init__(self, message: str) -> None:
        super().__init__(cut(printable(message), LONGEST))


def printable(text: str) -> str:
    """Text in one line: control characters, half surrogate pairs and other invisible ones as Python escapes them."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def cut(text: str, most: int) -> str:
    """Text of at most that many characters; the middle of a longer one is left out."""
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail - 3]}...{text[-tail:]}"


def shown(value: Any, most: int = 100) -> str:
    """A value as messages quote it, a long one cut in the middle."""
    try:
        return cut(repr(value), most)
    except ValueError:  # Python spells no whole number of more than 4300 digits
        return "a number of thousands of digits"


def first_line(error: BaseException) -> str:
    """What somebody else's error says, as far as its first line; its name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def choices(found: str, valid: Iterable[str]) -> str:
    """Hint at valid values: `; did you mean 'x'?` when one is near, otherwise all of them, if they are few."""
    valid = [str(name) for name in valid]
    near = get_close_matches(str(found)[:200], valid, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    more = ", ..." if len(valid) > LISTED else ""
    return f"; valid: {', '.join(valid[:LISTED])}{more}" if valid else "; none is defined"
