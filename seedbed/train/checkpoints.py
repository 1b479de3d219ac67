"""Checkpoints that are intact or ignored, and independent of how a run is computed.

A checkpoint holds fp32 weights and the optimizer's state by parameter name, as safetensors: any number of processes and
any ZeRO stage can resume from it. It is written in the background, last a manifest with the sizes and checksums of its
files, among which is `metrics.jsonl` up to its step. A reader takes the newest checkpoint that matches its manifest.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seedbed.checksums import described_files, mismatch
from seedbed.errors import SeedbedError
from seedbed.files import read_tensors, remove, replacing
from seedbed.records import read_record, write_record
from seedbed.runs import METRICS, Manifest
from seedbed.train.job import MANIFEST

if TYPE_CHECKING:  # slow to load, and whoever starts the ranks does without
    from torch import Tensor

KEEP = 2  # the newest may turn out damaged: the one before is the fallback
UNFINISHED = re.compile(r"\.step-\d+\..+\.partial")
# What else training keeps beside its checkpoints.
OWN = re.compile(r"\..*|lock|metrics\.jsonl|tensorboard|micro_batch\.json|final|trunk-\d+")


@dataclass(frozen=True)
class Checkpoint:
    """An intact checkpoint; `manifest` has the step and the facts that were passed to `save`."""

    folder: Path
    manifest: Manifest

    @property
    def step(self) -> int:
        return self.manifest["step"]

    def tensors(self, name: str) -> "dict[str, Tensor]":
        """The tensors of one of its files; empty if there is no such file."""
        path = self.folder / f"{name}.safetensors"
        return read_tensors(path) if path.name in self.manifest["files"] else {}

    @property
    def metrics(self) -> Path:
        """The lines of metrics before its step."""
        return self.folder / METRICS


def folder_of(root: Path, step: int) -> Path:
    return root / f"step-{step:08d}"


class Saver:
    """Writes checkpoints below `root` while training continues, one at a time."""

    def __init__(self, root: Path, keep: int = KEEP) -> None:
        self.root, self.keep = root, keep
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self.pending: Future | None = None

    def save(
        self, step: int, files: "dict[str, dict[str, Tensor]]", facts: dict, metrics: str, kept: Iterable[int] = ()
    ) -> None:
        """Write tensors, which must not change any more, to files; remove older checkpoints except those `kept`."""
        self.wait()
        self.pending = self.pool.submit(self.write, step, files, facts, metrics, set(kept))

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

    def write(
        self, step: int, files: "dict[str, dict[str, Tensor]]", facts: dict, metrics: str, kept: set[int]
    ) -> None:
        from safetensors.torch import save_file

        with replacing(folder_of(self.root, step)) as partial:
            partial.mkdir()
            for name, tensors in files.items():
                if tensors:
                    save_file(tensors, partial / f"{name}.safetensors")
            (partial / METRICS).write_text(metrics, encoding="utf-8")
            write_record(partial / MANIFEST, Manifest, {"step": step, **facts, "files": described_files(partial)})
        spare = [folder for folder in checkpoints(self.root) if step_of(folder) not in kept]
        for old in spare[: -self.keep]:
            remove(old)

    def forget_after(self, step: int) -> None:
        """Remove checkpoints of later steps."""
        self.wait()
        for folder in checkpoints(self.root):
            if step_of(folder) > step:
                remove(folder)


def step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def checkpoints(root: Path) -> list[Path]:
    """The checkpoints below `root`, intact or not, the oldest first."""
    return sorted(path for path in root.glob("step-*") if re.fullmatch(r"step-\d{8,18}", path.name) and path.is_dir())


def each_intact(root: Path, report: Callable[[str], None]) -> Iterator[Checkpoint]:
    """Intact checkpoints below `root`, the newest first; damaged ones are reported and skipped."""
    for folder in reversed(checkpoints(root)):
        try:
            yield opened(folder)
        except SeedbedError as error:
            report(f"{error}; skipped")


def report_strangers(root: Path, report: Callable[[str], None]) -> None:
    """Remove checkpoints that a killed process left unfinished, and tell what else below `root` is none of ours."""
    known = set(checkpoints(root))
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        if UNFINISHED.fullmatch(path.name):
            report(f"{path}: a checkpoint that was not finished; removed")
            remove(path)
        elif path not in known and not OWN.fullmatch(path.name):
            report(f"{path}: not of a training; skipped")


def opened(folder: Path) -> Checkpoint:
    """The checkpoint in a folder; raises SeedbedError when it is damaged."""
    if not (folder / MANIFEST).exists():
        raise SeedbedError(f"{folder}: no manifest")
    manifest = read_record(folder / MANIFEST, Manifest)
    if missing := {"weights.safetensors", METRICS} - manifest["files"].keys():
        raise SeedbedError(f"{folder / MANIFEST}: files: has no {min(missing)}")
    for name, facts in manifest["files"].items():
        if problem := mismatch(folder / name, facts):
            raise SeedbedError(f"{folder}: damaged checkpoint: {name}: {problem}")
    return Checkpoint(folder, manifest)
