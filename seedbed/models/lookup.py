"""Facts of models, each found once: from the real model on the meta device, then kept beside the results.

They come from `seedbed.models.measure`, in a process of its own where this one has not loaded torch anyway, and are
remembered by a checksum of what was asked and the version of transformers.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path

from seedbed.errors import SeedbedError
from seedbed.files import sha256_of
from seedbed.models.facts import Facts, Misfit
from seedbed.records import Record, read_record, write_record

FORM = 1  # of what is kept
PLACE = "cache/models.json"  # below the results
FOUND: dict[str, dict] = {}  # by checksum: the fields of Facts, or what is wrong


class Problem(Record):
    """What is wrong with a model that cannot be made, and the field at fault."""

    key: str | None
    problem: str


class Kept(Record):
    """Facts of models, or what is wrong with them, by checksum."""

    models: dict[str, Problem | Facts]


@cache
def transformers_version() -> str:
    return version("transformers")


def checksum(asked: dict) -> str:
    return sha256_of({"model": asked, "transformers": transformers_version(), "form": FORM})


def facts_of(asked: dict) -> Facts:
    """Facts of a model: `family`, `key_norm` and fields, or the `config` of one from elsewhere as its directory has it.

    Raises Misfit where no model can be made of them.
    """
    find([asked])
    found = FOUND[checksum(asked)]
    if "problem" in found:
        raise Misfit(found["key"], found["problem"])
    return Facts(**found)


def find(models: Iterable[dict], results: Path | None = None) -> None:
    """Know the facts of all these models at once: from what is kept below `results`, else from one other process."""
    asked = {checksum(model): model for model in models}
    if results and not asked.keys() <= FOUND.keys():
        FOUND.update({key: found for key, found in kept(results / PLACE).items() if key in asked})
    missing = {key: model for key, model in asked.items() if key not in FOUND}
    if missing:
        FOUND.update(zip(missing, measured(list(missing.values())), strict=True))
    if results:
        keep(results, asked)


def kept(path: Path) -> dict[str, dict]:
    """What is kept; nothing where it is damaged, because it can be found again."""
    try:
        found = read_record(path, Kept)["models"]
    except SeedbedError:
        return {}
    return {key: asdict(one) if isinstance(one, Facts) else one for key, one in found.items()}


def keep(results: Path, keys: Iterable[str] | None = None) -> None:
    """Keep what is known, or those keys of it, beside the results if there are any: a first dry run writes nothing."""
    path, known = results / PLACE, {key: FOUND[key] for key in (FOUND if keys is None else keys)}
    if results.is_dir() and (both := (before := kept(path)) | known) != before:
        try:
            write_record(path, Kept, {"models": dict(sorted(both.items()))})
        except OSError:  # somebody else's results
            pass


def measured(models: list[dict]) -> list[dict]:
    """The facts of some models, or what is wrong with them, as plain JSON."""
    if "torch" in sys.modules:
        from seedbed.models.measure import measure

        return [measure(model) for model in models]
    root = str(Path(__file__).parents[2])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH")))),
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "seedbed.models.measure"],
        input=json.dumps(models),
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SeedbedError(
            f"models: their sizes cannot be found: {(done.stderr.strip() or 'no reason').splitlines()[-1]}"
        )
    return json.loads(done.stdout.splitlines()[-1])
