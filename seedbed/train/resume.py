"""Where a run begins: at its own last checkpoint, at one that another run left at the same state, or anew."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch.distributed as dist
from torch import Tensor

from seedbed.errors import SeedbedError
from seedbed.train.checkpoints import Checkpoint, each_whole, opened, step_of
from seedbed.train.job import Job
from seedbed.train.schedules import stable_until


def resume_point(job: Job, steps: int, until: int, main_process: bool, most: int | None = None) -> Checkpoint | None:
    """The furthest checkpoint of this run up to step `most` that any of its places has, the same on every rank."""
    found = [furthest(job, steps, until if most is None else most) if main_process else None]
    dist.broadcast_object_list(found)
    if isinstance(found[0], SeedbedError):
        raise found[0]
    return found[0]


def furthest(job: Job, steps: int, most: int) -> Checkpoint | SeedbedError | None:
    try:
        candidates = [*first(own(job, steps, most)), *first(of_siblings(job, steps, most)), *given(job, steps, most)]
    except SeedbedError as error:
        return error
    return max(candidates, key=lambda checkpoint: checkpoint.step, default=None)


def first(checkpoints: Iterator[Checkpoint]) -> list[Checkpoint]:
    return list(islice(checkpoints, 1))


def own(job: Job, steps: int, most: int) -> Iterator[Checkpoint]:
    """Those in the store of the run, the newest first."""
    for checkpoint in each_whole(job.store, job.report):
        if checkpoint.manifest["identity"] != job.identity_at(checkpoint.step, steps):
            raise SeedbedError(
                f"{checkpoint.folder}: is of another run ({checkpoint.manifest['identity'][:16]}, expected "
                f"{job.identity_at(checkpoint.step, steps)[:16]}); delete it"
            )
        if checkpoint.step <= most:
            yield checkpoint


def of_siblings(job: Job, steps: int, most: int) -> Iterator[Checkpoint]:
    """Those that this run left when it was configured to end in another way, the furthest first."""
    limit = min(most, stable_until(job.spec["schedule"], steps))
    folders = [folder for folder in job.store.parent.glob("*/step-*") if folder.parent != job.store]
    for folder in sorted(folders, key=step_of, reverse=True):
        if step_of(folder) <= limit and (found := quietly(folder)):
            if found.manifest["identity"] == job.identity_at(found.step, steps):
                yield found


def quietly(folder: Path) -> Checkpoint | None:
    try:
        return opened(folder, folder.parent / "metrics.jsonl")
    except SeedbedError:
        return None


def given(job: Job, steps: int, most: int) -> list[Checkpoint]:
    """The trunk that the job was started with; raises SeedbedError when it is that of another run."""
    if not job.trunk:
        return []
    trunk = opened(job.trunk)
    if trunk.manifest["identity"] != job.identity_at(trunk.step, steps):
        raise SeedbedError(f"{job.trunk}: step {trunk.step} of another run; expected one of {job.name}")
    return [trunk] if trunk.step <= most else []


def initial_tensors(job: Job, checkpoint: Checkpoint | None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights and optimizer state to begin with; none of either where the model is as it was built."""
    if checkpoint:
        return checkpoint.tensors("weights"), checkpoint.tensors("optimizer")
    if job.initial_checkpoint:
        other = opened(job.initial_checkpoint)
        with_optimizer = (job.spec["init"] or {}).get("optimizer")
        return other.tensors("weights"), other.tensors("optimizer") if with_optimizer else {}
    return {}, {}
