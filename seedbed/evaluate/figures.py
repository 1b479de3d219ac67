"""What results of several kinds are made of, and how they are written and read.

`Result` in `result.py` of a kind says what its JSON has; `measure` returns it, and `report` reads it. A kind of an
installed package may do without one.
"""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import ConfigDict
from typing_extensions import TypedDict

from seedbed.evaluate import EVALUATIONS
from seedbed.records import Record, read_record, write_record

Interval = tuple[float, float]  # 95%


class Scores(Record):
    """Means over tokens: nats per token, and the share that is right."""

    loss: float
    accuracy: float


class Begin(TypedDict("Begin", {"is": str}), Record):
    """The token that a text begins with, and whether it `is` the tokenizer's BOS or stands in for it."""

    id: int
    token: str


class Identity(Record):
    """A file or directory that was read, and its checksum, or those of its files."""

    path: str
    sha256: str | dict[str, str]


class Measured(Record):
    """What every kind's JSON has besides its `Result`: what was measured, on what, and how long it took."""

    evaluation: str
    spec: dict[str, Any]
    model: Identity
    data: Identity | None
    seconds: float


@cache
def measured_type(kind: str) -> Any:
    """The type of the JSON of a kind of evaluation."""
    place = f"{EVALUATIONS.package(kind)}.result"
    known = bool(find_spec(place))
    own = get_type_hints(import_module(place).Result, include_extras=True) if known else {}
    made = TypedDict("Measured", get_type_hints(Measured, include_extras=True) | own)
    made.__pydantic_config__ = ConfigDict(extra="forbid" if known else "allow", allow_inf_nan=False)
    return made


def write_measured(path: Path, found: dict) -> None:
    write_record(path, measured_type(found["spec"]["kind"]), found)


def read_measured(path: Path, kind: str) -> dict:
    return read_record(path, measured_type(kind))
