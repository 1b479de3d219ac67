"""From a run's spec to processes that train it: identity, the lock, the ranks, publishing.

A run keeps what it may have to go on from in `<run>/checkpoints/<identity>/`: the identity is the checksum of its spec
and of its inputs, so that a changed run never goes on from another's weights, and changing back finds the old ones.
"""

import fcntl
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from seedbed.errors import SeedbedError
from seedbed.files import replacing, sha256, sha256_of, weight_checksums
from seedbed.train.execution import Execution, sequences_per_step
from seedbed.trunks import common_spec


@dataclass(frozen=True)
class Job:
    """One run with its inputs and the directory it writes to.

    `init` is the directory of a model or of a checkpoint to start from; `trunk` a checkpoint with the first updates of
    this very run, and `until` the number of updates after which the run ends as a trunk for others.
    """

    name: str
    spec: dict
    tokens: Path
    tokenizer: Path
    out: Path
    init: Path | None = None
    trunk: Path | None = None
    until: int | None = None
    execution: Execution = Execution()
    report: Callable[[str], None] = print

    @cached_property
    def inputs(self) -> dict[str, str]:
        """Checksums of what the run reads."""
        inputs = {"tokens": sha256(self.tokens / "index.json"), "tokenizer": sha256(self.tokenizer / "tokenizer.json")}
        if self.init:
            inputs["init"] = checksum_of_beginning(self.init)
        return inputs

    @cached_property
    def identity(self) -> str:
        return sha256_of({"spec": self.spec, "inputs": self.inputs})

    def identity_at(self, step: int, steps: int) -> str:
        """What the state after `step` of `steps` updates is: that of every run which made the same ones."""
        return sha256_of({"spec": common_spec(self.spec, steps, step), "inputs": self.inputs})

    @property
    def store(self) -> Path:
        return self.out / "checkpoints" / self.identity[:16]

    @property
    def final(self) -> Path:
        """What is there once the run is finished."""
        return self.store / (f"trunk-{self.until}" if self.until else "final")


def checksum_of_beginning(folder: Path) -> str:
    """Of a checkpoint, or of a model, whose weights may lie in several files."""
    if (folder / "manifest.json").exists():
        return sha256(folder / "manifest.json")
    weights = weight_checksums(folder)
    return weights["model.safetensors"] if list(weights) == ["model.safetensors"] else sha256_of(weights)


def pretrain(job: Job, command: list[str]) -> None:
    """Train a run, or what is left of it, and publish its files in `job.out`.

    `command` is this very process's command line, run again for each rank when there are several.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        from seedbed.train.engine import train

        die_with_parent()
        ranks = replace(job.execution, processes=int(os.environ["WORLD_SIZE"]))
        train(replace(job, execution=ranks))
        return
    with alone(job):
        if not job.final.exists():
            launch(replace(job, execution=placed(job.spec, job.execution)), command)
        publish(job)


@contextmanager
def alone(job: Job) -> Iterator[None]:
    """Wait until no other process trains this run: one that lost its workflow may still be at it."""
    job.store.mkdir(parents=True, exist_ok=True)
    with (job.store / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            job.report(f"{job.name}: another process is training it: waiting for that one to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def placed(spec: dict, execution: Execution) -> Execution:
    """The execution with its number of processes settled by the devices of this machine.

    Raises SeedbedError when there are fewer devices, or when ZeRO cannot share out this optimizer.
    """
    import torch

    from seedbed.train.optimizers import shardable

    optimizer = spec["optimizer"]["name"]
    if execution.zero_stage and not shardable(optimizer):
        raise SeedbedError(
            f"zero_stage {execution.zero_stage} cannot share out the state of {optimizer}; "
            "expected zero_stage 0, or optimizer.name adamw or adam"
        )
    gpus = torch.cuda.device_count()
    if not gpus:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if not execution.processes:
        sequences = sequences_per_step(spec)
        return replace(execution, processes=max(n for n in range(1, max(1, gpus) + 1) if sequences % n == 0))
    if gpus and execution.processes > gpus:
        raise SeedbedError(f"processes: found {execution.processes}, but {gpus} GPUs are visible here")
    return execution


def launch(job: Job, command: list[str]) -> None:
    """Train in this process, or in one per rank under torchrun's agent."""
    if job.execution.processes == 1:
        from seedbed.train.engine import train

        train(job)
        return
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=job.execution.processes,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        run_id=job.identity[:16],
        max_restarts=0,
    )
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, job.execution.threads // job.execution.processes)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        elastic_launch(config, sys.executable)(*command)
    except ChildFailedError:
        raise SystemExit(1) from None  # the rank that failed has said why
    except SignalException as stopped:
        raise SeedbedError(f"{job.name}: stopped by signal {stopped.sigval}; the same command goes on") from None


def die_with_parent() -> None:
    """Have Linux end this rank when its agent is killed; elsewhere it ends when it misses the others."""
    if sys.platform == "linux":
        import ctypes
        import signal

        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def publish(job: Job) -> None:
    """Put what the finished run left in its store where readers look."""
    final, store = job.final, job.store
    if job.until:
        with replacing(job.out / str(job.until)) as partial:
            shutil.copytree(final, partial, copy_function=linked)
        return
    for source in (
        final / "run.json",
        final / "summary.json",
        final / "model",
        store / "metrics.jsonl",
        store / "tensorboard",
    ):
        with replacing(job.out / source.name) as partial:
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, partial)


def linked(source: str, target: str) -> None:
    """A second name for a large file that nobody changes, where the file system has such."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
