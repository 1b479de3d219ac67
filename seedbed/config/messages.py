"""Mistakes in a configuration as one line: the path of the key, what was found, what was expected."""

from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from seedbed.config.fields import NAME, Strict
from seedbed.errors import SeedbedError, choices, shown

adapter = cache(TypeAdapter)  # making one takes longer than a validation
DEEPEST = 100  # mappings and lists in each other


def validated(kind: Any, raw: Any, where: str) -> Any:
    """`raw` as a value of that type; errors are one line of a SeedbedError that starts at `where`."""
    try:
        return adapter(kind).validate_python(raw)
    except ValidationError as error:
        first, *rest = error.errors()
        more = f" (and {len(rest)} more)" if rest else ""
        raise SeedbedError(describe(first, raw, where) + more) from None


DATE = "a date, such as 2026-01-31"
# What a type of error of pydantic's says was expected, where its own words are those of a programmer.
EXPECTED = {
    "string_type": "text",
    "string_unicode": "text of whole characters",
    "string_too_short": "text with a length of at least {min_length}",
    "string_too_long": "text with a length of at most {max_length}",
    "string_pattern_mismatch": "text that matches {pattern}",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "int_from_float": "a whole number",
    "greater_than": "a value greater than {gt:g}",
    "greater_than_equal": "a value greater than or equal to {ge:g}",
    "less_than": "a value less than {lt:g}",
    "less_than_equal": "a value less than or equal to {le:g}",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "too_short": "a list with a length of at least {min_length}",
    "too_long": "a list with a length of at most {max_length}",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "date_type": DATE,
    "date_parsing": DATE,
    "date_from_datetime_parsing": DATE,
    "date_from_datetime_inexact": DATE,
}


def check_text(raw: Any, where: str, path: list[str]) -> None:
    """Raise SeedbedError at a text with half of a surrogate pair, which no file could hold, and at values too deep."""
    if len(path) > DEEPEST:
        raise SeedbedError(f"{where}: {'.'.join(path[:5])}: values nest deeper than {DEEPEST}")
    if isinstance(raw, str) and not raw.isascii():
        try:
            raw.encode()
        except UnicodeEncodeError:
            raise SeedbedError(
                f"{where}: {'.'.join(path)}: expected text of whole characters; found {shown(raw)}"
            ) from None
    elif isinstance(raw, dict | list):
        for key, part in raw.items() if isinstance(raw, dict) else enumerate(raw):
            check_text(key, where, path)
            check_text(part, where, [*path, str(key)])


def describe(error: dict, raw: Any, where: str) -> str:
    """`config: runs.tiny.seq_len: expected ..., found ...` for one error of pydantic."""
    context, found = error.get("ctx") or {}, error["input"]
    path = key_path(error["loc"], raw)
    match error["type"]:
        case "unknown_key":
            path.append(context["key"])
            other = [key for key in found if not isinstance(key, str) and str(key) == context["key"]]
            message = key_is_text(other[0]) if other else f"unknown key{context['hint']}"
        case "missing" if isinstance(error["loc"][-1], int):
            message = f"expected more values; found {shown(found)}"
        case "missing":
            path.append(str(error["loc"][-1]))
            message = "missing"
        case "union_tag_not_found":
            path.append(context["discriminator"].strip("'"))
            message = "missing"
        case "string_type" if error["loc"][-1] == "[key]":
            path = [*key_path(error["loc"][:-2], raw), str(found)]
            message = key_is_text(found)
        case "union_tag_invalid":
            path.append(context["discriminator"].strip("'"))
            valid = context["expected_tags"].replace("'", "").split(", ")
            message = f"found {shown(context['tag'])}{choices(context['tag'], valid)}"
        case "literal_error":
            valid = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            message = f"found {shown(found)}{choices(found, valid)}"
        case "string_pattern_mismatch" if context["pattern"] == NAME:
            rule = "a name has letters, digits and ._+=,- only, and starts with a letter, digit or _"
            message = f"{rule}; found {shown(found)}"
        case "value_error":
            message = with_found(str(context["error"]), found)
        case type if type in EXPECTED:
            message = f"expected {EXPECTED[type].format(**context)}; found {shown(found)}"
        case _:
            message = with_found(error["msg"][0].lower() + error["msg"][1:], found)
    return ": ".join([where, *([".".join(path)] if path else []), message])


def with_found(message: str, found: Any) -> str:
    return message if isinstance(found, dict | Strict) else f"{message}; found {shown(found)}"


def key_is_text(key: Any) -> str:
    """What to say of a key that YAML takes for something else, such as `on` or 5."""
    return f"expected text as a key, in quotes where YAML reads something else; found {shown(key)}"


def key_path(location: tuple, raw: Any) -> list[str]:
    """The keys of `location` that the user wrote, without the names of union members that pydantic inserts."""
    path, told_apart = [], None
    for part in location:
        if isinstance(raw, dict) and raw is not told_apart and part in (raw.get("kind"), raw.get("name")):
            told_apart = raw  # its member of the union comes first, and may be called like a key of it
        elif (isinstance(raw, dict) and part in raw) or (isinstance(raw, list) and part in range(len(raw))):
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
