"""Texts of records: a field, or a template with fields."""

import math
from collections.abc import Iterable, Iterator
from datetime import date
from datetime import time as time_of_day
from decimal import Decimal
from string import Formatter
from typing import Any

from seedbed.data.records import too_large
from seedbed.errors import SeedbedError, choices, shown

PLAIN = (int, float, Decimal, date, time_of_day)  # what a template writes besides text


def template_fields(text: str) -> list[str]:
    """The names of the fields that `text` of a corpus needs, each once: its own, or those in a template."""
    fields = [field for _, field, _, _ in Formatter().parse(text) if field] if "{" in text else [text]
    return list(dict.fromkeys(fields))


def rendered(records: Iterable[Any], spec: dict, name: str) -> Iterator[str]:
    """Texts of records: a plain string as it is, else the field `text`, or the template if it has {fields}."""
    text, most = spec["text"], spec["max_record_bytes"]
    template = [(literal, field) for literal, field, _, _ in Formatter().parse(text)] if "{" in text else None
    for number, record in enumerate(records, start=1):
        where = f"{name}: record {number}"
        if isinstance(record, str):
            value = record
        elif not isinstance(record, dict):
            raise SeedbedError(f"{where}: expected an object or a string, found {type(record).__name__}")
        elif template:
            pieces = ((literal, filled(record, field, text, where) if field else "") for literal, field in template)
            value = "".join(piece for pair in pieces for piece in pair)
        else:
            value = found(record, text, where)
            if not isinstance(value, str):
                raise SeedbedError(f"{where}: field {shown(text)} is {type(value).__name__}, expected text")
        try:
            size = len(value.encode())
        except UnicodeEncodeError as error:
            raise SeedbedError(f"{where}: half of a surrogate pair at character {error.start}") from None
        if size > most:
            raise too_large(where, most)
        yield value


def found(record: dict, field: str, where: str) -> Any:
    try:
        return record[field]
    except KeyError:
        raise no_field(where, field, record) from None


def no_field(where: str, field: str, valid: Iterable[str]) -> SeedbedError:
    return SeedbedError(f"{where}: no field {shown(field)}{choices(field, valid)}")


def filled(record: dict, field: str, template: str, where: str) -> str:
    """A field in a template: text as it is, numbers and dates as Python writes them."""
    value = found(record, field, where)
    if isinstance(value, str):
        return value
    if value is None:
        raise SeedbedError(f"{where}: a field of {shown(template)} is null, expected text")
    finite = not isinstance(value, float) or math.isfinite(value)
    if isinstance(value, PLAIN) and not isinstance(value, bool) and finite:
        return str(value)
    expected = "expected text, a number or a date"
    raise SeedbedError(f"{where}: field {shown(field)} of the template is {type(value).__name__}, {expected}")
