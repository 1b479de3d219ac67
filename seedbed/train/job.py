"""One run to be trained: its spec, its inputs, where it writes, and its identity, which follows from spec and inputs.

A run keeps its checkpoints in `<run>/checkpoints/<identity>/`. The identity is the checksum of its spec and inputs, so
a changed run never resumes from the weights of another, and changing it back finds the old ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from seedbed.checksums import model_checksums, sha256, weight_checksums
from seedbed.config.run import Run, Unit
from seedbed.errors import SeedbedError
from seedbed.files import sha256_of
from seedbed.objectives import OBJECTIVES
from seedbed.runs import ADOPTED, verify_model
from seedbed.train.execution import Execution
from seedbed.train.schedules import common_spec

MANIFEST = "manifest.json"  # a directory that has one is a checkpoint


class Inputs(dict[str, Path]):
    """Files that a run reads by name; raises SeedbedError for one that was not given."""

    def __missing__(self, name: str) -> Path:
        given = ", ".join(self) or "none"
        raise SeedbedError(f"input {name!r} is missing; found {given}, expected --input {name}=PATH")


@dataclass(frozen=True)
class Job:
    """One run with its inputs and the directory it writes to.

    `inputs` are files by name, as the run's config class names them. `init` among them is the directory of a model or
    of a checkpoint to start from; `trunk` a checkpoint with the first updates of this run. `until` is the number
    of updates after which the run ends as a trunk for others.
    """

    name: str
    spec: dict
    out: Path
    inputs: dict[str, Path] = field(default_factory=dict)
    until: int | None = None
    execution: Execution = Execution()
    report: Callable[[str], None] = print

    @property
    def kind(self) -> type[Run]:
        """The config class of the run."""
        return OBJECTIVES[self.spec["objective"]]

    @cached_property
    def unit(self) -> Unit:
        return self.kind.unit(self.spec)

    @property
    def trunk(self) -> Path | None:
        return self.inputs.get("trunk")

    @property
    def initial_checkpoint(self) -> Path | None:
        """The checkpoint of another run to start from; None where `init` is a model or missing."""
        init = self.inputs.get("init")
        return init if init and (init / MANIFEST).exists() else None

    @cached_property
    def checksums(self) -> dict[str, str]:
        """Checksums of the inputs by name; a trunk is not among them, it carries an identity of its own."""
        return {name: checksum(path) for name, path in self.inputs.items() if name != "trunk"}

    @cached_property
    def identity(self) -> str:
        return sha256_of({"spec": self.spec, "inputs": self.checksums})

    def identity_at(self, step: int, steps: int) -> str:
        """Identity of the state after `step` of `steps` updates, shared by all runs that make the same updates."""
        return sha256_of({"spec": common_spec(self.spec, steps, step), "inputs": self.checksums})

    @property
    def store(self) -> Path:
        return self.out / "checkpoints" / self.identity[:16]

    @property
    def final(self) -> Path:
        """The result of the run; exists once the run is finished."""
        return self.store / (f"trunk-{self.until}" if self.until else "final")


def checksum(path: Path) -> str:
    """Checksum of a file, a checkpoint, or a model, whose weights may be in several files."""
    if not path.exists():
        raise SeedbedError(f"{path}: no such file or directory")
    if path.is_file():
        return sha256(path)
    if (path / MANIFEST).exists():
        return sha256(path / MANIFEST)
    verify_model(path)
    if (path / ADOPTED).exists():  # of the same weights there may be several versions
        return sha256_of(model_checksums(path))
    weights = weight_checksums(path)
    return weights["model.safetensors"] if list(weights) == ["model.safetensors"] else sha256_of(weights)
