"""Plans a configuration with large numbers in every numeric place, one at a time, in little memory.

python bounded.py <configuration> <MiB of address space>: prints how many plans were made and how many refused.
"""

import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from seedbed.config.fields import dump
from seedbed.config.load import check
from seedbed.errors import LONGEST, SeedbedError
from seedbed.models import lookup
from seedbed.plan import Plan, specs
from seedbed.plan.forecast import forecast

LARGE = (10**18, 3 * 10**8, {"first": 1, "last": 3 * 10**8})
FACTS = {"blocks": 10**6, "per_token": 128, "per_position": 0, "layers": 4, "width": 128, "learned": True}
FACTS |= {"positions": None, "no_recurrence": None, "linear": ["q_proj", "v_proj"]}


def places(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of numbers, lists and nothing below mappings."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif value is None or isinstance(value, list | int | float) and not isinstance(value, bool):
        yield path


def with_value(raw: dict, path: tuple[str, ...], value: Any) -> dict:
    head, *rest = path
    return raw | {head: with_value(raw[head], tuple(rest), value) if rest else value}


def planned(raw: dict) -> None:
    plan = Plan(check(raw))
    forecast(plan)
    for names, spec in specs.SPECS.values():
        for name in names(plan):
            spec(plan, name)


def main(path: str, mebibytes: str) -> None:
    lookup.measured = lambda models: [FACTS] * len(models)  # which takes another process, and torch
    raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    raw = dump(check(raw)) | {"studies": raw["studies"], "results": "none"}
    resource.setrlimit(resource.RLIMIT_AS, (int(mebibytes) * 2**20,) * 2)
    planned(raw)
    made = refused = 0
    for place in places(raw):
        for value in LARGE:
            try:
                planned(with_value(raw, place, value))
                made += 1
            except SeedbedError as error:
                assert "\n" not in str(error) and len(str(error)) <= LONGEST, (place, value)
                refused += 1
            except BaseException:
                print(f"at {place} {value}", file=sys.stderr)
                raise
    print(made, refused)


if __name__ == "__main__":
    main(*sys.argv[1:])
