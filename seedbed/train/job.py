"""One training as it is asked for: its spec, its inputs, where it writes; and its identity, which follows from them.

A run keeps what it may have to resume from in `<run>/checkpoints/<identity>/`: the identity is the checksum of its spec
and of its inputs, so that a changed run never resumes from another's weights, and changing back finds the old ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from seedbed.config.run import Run, Unit
from seedbed.files import sha256, sha256_of, weight_checksums
from seedbed.objectives import OBJECTIVES
from seedbed.train.execution import Execution
from seedbed.train.schedules import common_spec

MANIFEST = "manifest.json"  # what makes a directory a checkpoint


@dataclass(frozen=True)
class Job:
    """One run with its inputs and the directory it writes to.

    `inputs` are files by name, as the run's config class names them. `init` among them is the directory of a model or
    of a checkpoint to start from; `trunk` a checkpoint with the first updates of this very run. `until` is the number
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
        """The config class of such runs."""
        return OBJECTIVES[self.spec["objective"]]

    @cached_property
    def unit(self) -> Unit:
        return self.kind.unit(self.spec)

    @property
    def trunk(self) -> Path | None:
        return self.inputs.get("trunk")

    @property
    def initial_checkpoint(self) -> Path | None:
        """The checkpoint of another run to start from, if it is one."""
        init = self.inputs.get("init")
        return init if init and (init / MANIFEST).exists() else None

    @cached_property
    def checksums(self) -> dict[str, str]:
        """Of what the run reads; a trunk is checked by its own identity."""
        return {name: checksum(path) for name, path in self.inputs.items() if name != "trunk"}

    @cached_property
    def identity(self) -> str:
        return sha256_of({"spec": self.spec, "inputs": self.checksums})

    def identity_at(self, step: int, steps: int) -> str:
        """What the state after `step` of `steps` updates is: that of every run which made the same ones."""
        return sha256_of({"spec": common_spec(self.spec, steps, step), "inputs": self.checksums})

    @property
    def store(self) -> Path:
        return self.out / "checkpoints" / self.identity[:16]

    @property
    def final(self) -> Path:
        """What is there once the run is finished."""
        return self.store / (f"trunk-{self.until}" if self.until else "final")


def checksum(path: Path) -> str:
    """Of a file, a checkpoint, or a model, whose weights may lie in several files."""
    if path.is_file():
        return sha256(path)
    if (path / MANIFEST).exists():
        return sha256(path / MANIFEST)
    weights = weight_checksums(path)
    return weights["model.safetensors"] if list(weights) == ["model.safetensors"] else sha256_of(weights)
