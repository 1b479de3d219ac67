"""The JSON files between stages: each has one type, which its writer and its readers use, and a checksum of itself."""

import json
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError
from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from seedbed.config.messages import adapter, describe
from seedbed.errors import SeedbedError
from seedbed.files import read_json, sha256_of, write_json

SEAL = "checksum"  # the key of the checksum of all the rest


class Record(TypedDict):
    """A mapping with no other keys than those that its subclass names."""

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)


def checked(kind: Any, value: Any, where: Path | str) -> Any:
    """A value of that type; SeedbedError names the key that is not."""
    try:
        return adapter(kind).validate_python(value)
    except ValidationError as error:
        raise SeedbedError(describe(error.errors()[0], value, str(where))) from None


def sealed(value: dict) -> dict:
    """A mapping of JSON with its checksum."""
    return value | {SEAL: sha256_of(value)}


def write_record(path: Path, kind: Any, value: dict) -> None:
    """Write a mapping of that type, with its checksum."""
    plain = json.loads(json.dumps(value, allow_nan=False))  # as a reader finds it
    checked(kind, plain, path)
    write_json(path, sealed(plain))


def read_record(path: Path, kind: Any) -> Any:
    """A mapping that `write_record` wrote.

    Raises SeedbedError, with the file and the key, where it is missing, damaged or of another type.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise unusable(path, f"found {type(found).__name__}, expected a mapping")
    seal = found.pop(SEAL, None)
    if seal is None:
        raise unusable(path, f"has no key {SEAL!r}, which all that Seedbed writes has")
    try:
        intact = seal == sha256_of(found)
    except RecursionError:  # a reader nests a little deeper than a writer
        intact = False
    if not intact:
        raise unusable(path, f"damaged: its contents are not those of its {SEAL}")
    return checked(kind, found, path)


def unusable(path: Path, problem: str) -> SeedbedError:
    return SeedbedError(f"{path}: {problem}; `rm {path}`, then the same command, makes it again")
