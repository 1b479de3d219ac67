"""Mistakes in a configuration as one line: the path of the key, what was found, what was expected."""

from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from seedbed.config.fields import NAME, Strict
from seedbed.errors import SeedbedError, choices, shown

adapter = cache(TypeAdapter)  # making one takes longer than a validation


def validated(kind: Any, raw: Any, where: str) -> Any:
    """`raw` as a value of that type; errors are one line of a SeedbedError that starts at `where`."""
    try:
        return adapter(kind).validate_python(raw)
    except ValidationError as error:
        first, *rest = error.errors()
        more = f" (and {len(rest)} more)" if rest else ""
        raise SeedbedError(describe(first, raw, where) + more) from None


def describe(error: dict, raw: Any, where: str) -> str:
    """`config: runs.tiny.seq_len: expected ..., found ...` for one error of pydantic."""
    context, found = error.get("ctx") or {}, error["input"]
    path = key_path(error["loc"], raw)
    match error["type"]:
        case "unknown_key":
            path.append(context["key"])
            message = f"unknown key{context['hint']}"
        case "missing":
            path.append(str(error["loc"][-1]))
            message = "missing"
        case "union_tag_invalid":
            path.append(context["discriminator"].strip("'"))
            valid = context["expected_tags"].replace("'", "").split(", ")
            message = f"found {shown(context['tag'])}{choices(context['tag'], valid)}"
        case "literal_error":
            valid = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            message = f"found {shown(found)}{choices(found, valid)}"
        case "string_pattern_mismatch" if context["pattern"] == NAME:
            message = (
                f"a name has letters, digits and ._+=,- only, and starts with a letter, digit or _; "
                f"found {shown(found)}"
            )
        case "value_error":
            message = with_found(str(context["error"]), found)
        case _:
            message = with_found(error["msg"][0].lower() + error["msg"][1:], found)
    return ": ".join([where, *([".".join(path)] if path else []), message])


def with_found(message: str, found: Any) -> str:
    return message if isinstance(found, dict | Strict) else f"{message}; found {shown(found)}"


def key_path(location: tuple, raw: Any) -> list[str]:
    """The keys of `location` that the user wrote, without the names of union members that pydantic inserts."""
    path = []
    for part in location:
        if (isinstance(raw, dict) and part in raw) or (isinstance(raw, list) and isinstance(part, int)):
            raw = raw[part]
            path.append(str(part))
    return path


def refer(where: str, name: str, defined: Any, what: str) -> None:
    """Raise SeedbedError, with the nearest name, if `name` is not defined."""
    if name not in defined:
        raise SeedbedError(f"config: {where}: no {what} is called {name!r}{choices(name, defined)}")


def refer_to_split(where: str, name: str, corpora: dict, split: str) -> None:
    """Raise SeedbedError if the corpus is not defined, or has nothing in that split."""
    refer(f"{where}.corpus", name, corpora, "corpus")
    if split != "train" and not getattr(corpora[name].split, split):
        raise SeedbedError(f"config: {where}: needs the {split} split; corpora.{name}.split.{split} is 0")
