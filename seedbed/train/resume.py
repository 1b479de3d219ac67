"""Where a run starts: at its own last checkpoint, at one of another run with the same state, or from scratch."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch.distributed as dist
from torch import Tensor

from seedbed.errors import SeedbedError
from seedbed.train.checkpoints import Checkpoint, checkpoints, each_intact, opened, step_of
from seedbed.train.job import Job
from seedbed.train.schedules import stable_until


def resume_point(job: Job, steps: int, until: int, main_process: bool, most: int | None = None) -> Checkpoint | None:
    """The latest checkpoint up to step `most` that this run can resume from, the same on every rank; collective."""
    found = [latest(job, steps, until if most is None else most) if main_process else None]
    dist.broadcast_object_list(found)
    if isinstance(found[0], SeedbedError):
        raise found[0]
    return found[0]


def latest(job: Job, steps: int, most: int) -> Checkpoint | SeedbedError | None:
    try:
        candidates = [
            *first(own(job, steps, most)),
            *first(of_siblings(job, steps, most)),
            *from_trunk(job, steps, most),
        ]
    except SeedbedError as error:
        return error
    return max(candidates, key=lambda checkpoint: checkpoint.step, default=None)


def first(checkpoints: Iterator[Checkpoint]) -> list[Checkpoint]:
    return list(islice(checkpoints, 1))


def own(job: Job, steps: int, most: int) -> Iterator[Checkpoint]:
    """Checkpoints in the store of this run, the latest first."""
    for checkpoint in each_intact(job.store, job.report):
        if checkpoint.manifest["identity"] != job.identity_at(checkpoint.step, steps):
            raise SeedbedError(
                f"{checkpoint.folder}: belongs to another run ({checkpoint.manifest['identity'][:16]}, expected "
                f"{job.identity_at(checkpoint.step, steps)[:16]}); delete it"
            )
        if checkpoint.step <= most:
            yield checkpoint


def of_siblings(job: Job, steps: int, most: int) -> Iterator[Checkpoint]:
    """Checkpoints that this run saved under a configuration that differs in how it ends, the latest first."""
    limit = min(most, stable_until(job.spec["schedule"], steps))
    stores = [store for store in job.store.parent.glob("*") if store != job.store]
    folders = [folder for store in stores for folder in checkpoints(store)]
    for folder in sorted(folders, key=step_of, reverse=True):
        if step_of(folder) <= limit and (found := opened_if_intact(folder)):
            if found.manifest["identity"] == job.identity_at(found.step, steps):
                yield found


def opened_if_intact(folder: Path) -> Checkpoint | None:
    try:
        return opened(folder)
    except SeedbedError:
        return None


def from_trunk(job: Job, steps: int, most: int) -> list[Checkpoint]:
    """The trunk that the job was given; raises SeedbedError when it belongs to another run."""
    if not job.trunk:
        return []
    trunk = opened(job.trunk)
    if trunk.manifest["identity"] != job.identity_at(trunk.step, steps):
        raise SeedbedError(f"{job.trunk}: step {trunk.step} of another run; expected one of {job.name}")
    return [trunk] if trunk.step <= most else []


def initial_tensors(job: Job, checkpoint: Checkpoint | None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Initial weights and optimizer state; both empty where the model starts as it was built."""
    if checkpoint:
        return checkpoint.tensors("weights"), checkpoint.tensors("optimizer")
    if job.initial_checkpoint:
        other = opened(job.initial_checkpoint)
        with_optimizer = (job.spec["init"] or {}).get("optimizer")
        return other.tensors("weights"), other.tensors("optimizer") if with_optimizer else {}
    return {}, {}
