"""What a plan has to know of models: their sizes, and what can be done with them. Nothing here loads torch.

Facts come from the real model on the meta device (`seedbed.models.measure`), in a process of its own where this one has
not loaded torch anyway. They are remembered by a checksum of what was asked and the version of transformers, and kept
beside the results, so that they are found once.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from seedbed.errors import SeedbedError
from seedbed.files import read_json, sha256_of, write_json

FORM = 1  # of what is kept
PLACE = "cache/models.json"  # below the results


class Misfit(SeedbedError):
    """No model can be made of these fields; `key` is the one at fault, if it is one."""

    def __init__(self, key: str | None, problem: str) -> None:
        super().__init__(f"model{f'.{key}' if key else ''}: {problem}")
        self.key, self.problem = key, problem


@dataclass(frozen=True)
class Facts:
    """Sizes of a model, and what can be done with it."""

    # weights without embeddings, output head and table of positions; those of each token, of each learned position
    blocks: int
    per_token: int
    per_position: int
    layers: int
    width: int
    # whether positions are learned (or tabulated), and how many its fields say
    learned: bool
    positions: int | None
    # why seedbed.models.recurrence can give it no memory, if so
    no_recurrence: str | None
    # names of its linear layers without the output head and without their layers' numbers
    linear: list[str]

    def parameters(self, vocabulary: int, positions: int) -> int:
        """Number of weights with a vocabulary, and a table of `positions` where its fields do not say how many."""
        return self.blocks + vocabulary * self.per_token + (self.positions or positions) * self.per_position


def without_numbers(name: str) -> str:
    """The name of a module, the same in all layers."""
    return ".".join(part for part in name.split(".") if not part.isdigit())


FOUND: dict[str, dict] = {}  # by checksum: the fields of Facts, or what is wrong


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


def find(asked: Iterable[dict], results: Path | None = None) -> None:
    """Know the facts of all these models at once: from what is kept below `results`, else from one other process."""
    if results:
        FOUND.update({key: found for key, found in kept(results / PLACE).items() if key not in FOUND})
    missing = {key: model for model in asked if (key := checksum(model)) not in FOUND}
    if missing:
        FOUND.update(zip(missing, measured(list(missing.values())), strict=True))
    if missing and results:
        keep(results)


def kept(path: Path) -> dict[str, dict]:
    """What is kept; nothing where it is damaged, because it can be found again."""
    try:
        found = read_json(path)
        return {key: facts for key, facts in found.items() if "problem" in facts or Facts(**facts)}
    except (SeedbedError, OSError, AttributeError, TypeError):
        return {}


def keep(results: Path) -> None:
    """Keep what is known beside the results, if there are any: a dry run in a fresh project writes nothing."""
    path = results / PLACE
    if results.is_dir() and (both := (before := kept(path)) | FOUND) != before:
        try:
            write_json(path, dict(sorted(both.items())))
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
        [sys.executable, "-m", "seedbed.models.measure"],
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
