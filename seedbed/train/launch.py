"""From a job to processes that train it: the lock, the ranks, publishing."""

import fcntl
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from seedbed.errors import SeedbedError
from seedbed.files import linked, remove, replacing
from seedbed.runs import METRICS, MODEL, RUN, SUMMARY, damage
from seedbed.train.checkpoints import report_strangers
from seedbed.train.execution import Execution
from seedbed.train.job import Job

if TYPE_CHECKING:  # slow to load
    from torch.distributed.launcher.api import LaunchConfig


def pretrain(job: Job, command: list[str]) -> None:
    """Train a run, or what is left of it, and publish its files in `job.out`.

    `command` is the command line of this process, started again for each rank when there are several.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        from seedbed.train.trainer import train

        die_with_parent()
        ranks = replace(job.execution, processes=int(os.environ["WORLD_SIZE"]))
        train(replace(job, execution=ranks))
        return
    with locked(job):
        report_strangers(job.store, job.report)
        if finished(job):
            job.report(f"{job.name}: already trained; its files are published again")
        else:
            launch(replace(job, execution=placed(job)), command)
        publish(job)


def finished(job: Job) -> bool:
    """Whether the job has its result; a damaged one is told and removed, so that training resumes before its end."""
    if not job.final.exists():
        return False
    if problem := damage(job.final):
        job.report(f"{job.final}: damaged result: {problem}; made again from the last checkpoint")
        remove(job.final)
    return not problem


@contextmanager
def locked(job: Job) -> Iterator[None]:
    """Hold the run's lock; waits for another process that trains it, which may have outlived its workflow."""
    job.store.mkdir(parents=True, exist_ok=True)
    with (job.store / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            job.report(f"{job.name}: another process is training it; waiting for it to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def placed(job: Job) -> Execution:
    """The execution of a job, with the number of processes that suits the devices of this machine.

    Raises SeedbedError when there are too few devices, or when ZeRO cannot shard this optimizer.
    """
    import torch

    from seedbed.train.optimizers import shardable

    execution, optimizer = job.execution, job.spec["optimizer"]["name"]
    if execution.zero_stage and not shardable(optimizer):
        raise SeedbedError(
            f"zero_stage {execution.zero_stage} cannot shard the state of {optimizer}; "
            "expected zero_stage 0, or optimizer.name adamw or adam"
        )
    gpus = torch.cuda.device_count()
    if not gpus:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if not execution.processes:
        fitting = [n for n in range(1, max(1, gpus) + 1) if job.unit.samples % n == 0]
        return replace(execution, processes=max(fitting))
    if gpus and execution.processes > gpus:
        raise SeedbedError(f"processes: found {execution.processes}, expected at most the {gpus} visible GPUs")
    return execution


def launch(job: Job, command: list[str]) -> None:
    """Train in this process, or in one per rank under torchrun's agent."""
    if job.execution.processes == 1:
        from seedbed.train.trainer import train

        train(job)
        return
    from torch.distributed.launcher.api import LaunchConfig

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, job.execution.threads // job.execution.processes)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    # The agent unpickles what it finds where ranks meet: a file that nobody else can write, not a port.
    with TemporaryDirectory() as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=job.execution.processes,
            rdzv_backend="c10d",
            rdzv_endpoint=f"{folder}/meeting",
            rdzv_configs={"store_type": "file"},
            run_id=job.identity[:16],
            max_restarts=0,
        )
        launched(job, config, command)


def launched(job: Job, config: "LaunchConfig", command: list[str]) -> None:
    """Run the ranks under torchrun's agent; a rank that fails ends this process, too."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    try:
        elastic_launch(config, sys.executable)(*command)
    except ChildFailedError:
        raise SystemExit(1) from None  # the failed rank has reported why
    except SignalException as stopped:
        raise SeedbedError(f"{job.name}: stopped by signal {stopped.sigval}; the same command resumes it") from None


def die_with_parent() -> None:
    """Have Linux kill this rank when its launcher is killed; elsewhere it ends when it loses the other ranks."""
    if sys.platform == "linux":
        import ctypes
        import signal

        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def publish(job: Job) -> None:
    """Copy the result of a finished run from its store to `job.out`, where later stages read it."""
    final = job.final
    if job.until:
        with replacing(job.out / str(job.until)) as partial:
            shutil.copytree(final, partial, copy_function=linked)
        return
    publish_events(job)
    for source in (final / MODEL, final / METRICS, final / SUMMARY, final / RUN):
        with replacing(job.out / source.name) as partial:
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, partial)


def publish_events(job: Job) -> None:
    """Copy what TensorBoard shows, which nothing else reads; where it cannot be copied, that is told."""
    source = job.store / "tensorboard"
    try:
        with replacing(job.out / source.name) as partial:
            shutil.copytree(source, partial)
    except OSError:
        job.report(f"{source}: cannot be copied; left out")
