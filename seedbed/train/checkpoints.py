"""Checkpoints that are intact or ignored, and independent of how a run is computed.

A checkpoint holds fp32 weights and the optimizer's state by parameter name, as safetensors: any number of processes and
any ZeRO stage can resume from it. It is written into a hidden folder, in the background; a manifest with sizes and
checksums is written last, then the folder is renamed to `step-<n>`. A reader takes the newest checkpoint whose files
match its manifest.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from seedbed.errors import SeedbedError
from seedbed.files import flush, read_json, remove, sha256, write_json
from seedbed.train.job import MANIFEST

KEEP = 2  # the newest may turn out damaged: the one before is the fallback


@dataclass(frozen=True)
class Checkpoint:
    """An intact checkpoint; `manifest` has the step and the facts that were passed to `save`."""

    folder: Path
    manifest: dict
    metrics: Path

    @property
    def step(self) -> int:
        return self.manifest["step"]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of one of its files; empty if there is no such file."""
        from safetensors.torch import load_file

        path = self.folder / f"{name}.safetensors"
        return load_file(path) if path.exists() else {}


def folder_of(root: Path, step: int) -> Path:
    return root / f"step-{step:08d}"


class Saver:
    """Writes checkpoints below `root` while training continues, one at a time."""

    def __init__(self, root: Path, keep: int = KEEP) -> None:
        self.root, self.keep = root, keep
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self.pending: Future | None = None

    def save(self, step: int, files: dict[str, dict[str, Tensor]], facts: dict, kept: Iterable[int] = ()) -> None:
        """Write tensors, which must not change any more, to files; remove older checkpoints except those `kept`."""
        self.wait()
        self.pending = self.pool.submit(self.write, step, files, facts, set(kept))

    def wait(self) -> None:
        """Wait until the pending checkpoint is on disk; re-raise an error of its writer."""
        if self.pending:
            pending, self.pending = self.pending, None
            pending.result()

    def close(self) -> None:
        try:
            self.wait()
        finally:
            self.pool.shutdown()

    def write(self, step: int, files: dict[str, dict[str, Tensor]], facts: dict, kept: set[int]) -> None:
        from safetensors.torch import save_file

        partial = self.root / f".step-{step:08d}.partial"
        remove(partial)
        partial.mkdir(parents=True)
        for name, tensors in files.items():
            if tensors:
                save_file(tensors, partial / f"{name}.safetensors")
        described = {path.name: describe(path) for path in sorted(partial.iterdir())}
        write_json(partial / MANIFEST, {"step": step, **facts, "files": described})
        flush(partial)
        remove(folder_of(self.root, step))
        partial.rename(folder_of(self.root, step))
        spare = [folder for folder in sorted(self.root.glob("step-*")) if step_of(folder) not in kept]
        for old in spare[: -self.keep]:
            remove(old)

    def forget_after(self, step: int) -> None:
        """Remove checkpoints of later steps."""
        self.wait()
        for folder in self.root.glob("step-*"):
            if step_of(folder) > step:
                remove(folder)


def step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def describe(path: Path) -> dict:
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def each_intact(root: Path, report: Callable[[str], None]) -> Iterator[Checkpoint]:
    """Intact checkpoints below `root`, the newest first; damaged ones are reported and skipped."""
    for folder in sorted(root.glob("step-*"), reverse=True):
        try:
            yield opened(folder, root / "metrics.jsonl")
        except SeedbedError as error:
            report(f"{error}; skipped")


def opened(folder: Path, metrics: Path | None = None) -> Checkpoint:
    """The checkpoint in a folder, with the metrics file in it unless given.

    Raises SeedbedError when it is damaged.
    """
    if not (folder / MANIFEST).exists():
        raise SeedbedError(f"{folder}: no manifest")
    manifest = read_json(folder / MANIFEST)
    damaged = [name for name, facts in manifest["files"].items() if not intact(folder / name, facts)]
    if damaged:
        raise SeedbedError(f"{folder}: damaged checkpoint ({', '.join(damaged)})")
    return Checkpoint(folder, manifest, metrics or folder / "metrics.jsonl")


def intact(path: Path, facts: dict) -> bool:
    return path.exists() and path.stat().st_size == facts["bytes"] and sha256(path) == facts["sha256"]
