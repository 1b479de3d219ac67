"""Real trainings in processes of their own, forked from one that has loaded the libraries already."""

import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path

from forks import FORKS

from seedbed.checksums import sha256
from seedbed.cli import reporting
from seedbed.config.fields import without
from seedbed.files import read_jsonl
from seedbed.objectives.lm.config import LanguageModelRun
from seedbed.train.execution import Execution
from seedbed.train.job import Job
from seedbed.train.launch import pretrain, publish

MODEL = {
    "family": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
STEPS = 12


def run_spec(**changes: object) -> dict:
    """The spec of a run of 12 steps of 8 sequences, some keys changed."""
    fields = {
        "corpus": "news",
        "tokenizer": "small",
        "model": MODEL,
        "seq_len": 32,
        "budget": {"steps": STEPS},
        "batch_tokens": 256,
        "precision": "fp32",
        "optimizer": {"lr": 1e-2},
        "validation": {"every": 5, "tokens": 1000},
        "log_every": 1,
    }
    return LanguageModelRun.model_validate(fields | changes).spec()


@dataclass
class Training:
    """One training under way on one or several ranks."""

    job: Job
    ranks: list[BaseProcess]
    errors: Path

    def wait(self) -> "Training":
        for rank in self.ranks:
            rank.join(120)
            assert rank.exitcode is not None, "it hangs"
        return self

    @property
    def succeeded(self) -> bool:
        return all(rank.exitcode == 0 for rank in self.ranks)

    @property
    def messages(self) -> str:
        return self.errors.read_text(encoding="utf-8") if self.errors.exists() else ""

    def kill(self, number: int = signal.SIGKILL) -> None:
        for rank in self.ranks:
            if rank.is_alive():
                os.kill(rank.pid, number)
        self.wait()

    def reach(self, step: int) -> None:
        """Wait until a step is logged."""
        for _ in range(12000):
            lines = list(self.job.out.glob("checkpoints/*/metrics.jsonl"))
            newest = max(lines, key=lambda path: path.stat().st_mtime, default=None)
            if newest and newest.read_text().count("\n") >= step:
                return
            assert self.ranks[0].is_alive(), self.messages
            time.sleep(0.005)
        raise AssertionError(f"never reached step {step}")


@dataclass(frozen=True)
class Runs:
    """Starts trainings on one set of tokens; those of an ICAE on one of contexts, of a Thinker on nothing."""

    tokens: Path
    tokenizer: Path
    contexts: Path | None = None

    def job(self, out: Path, spec: dict, **options: object) -> Job:
        inputs = {key: options.pop(key) for key in ("init", "trunk") if key in options}
        if spec["objective"] != "thinker":
            data = self.contexts if spec["objective"] == "icae" else self.tokens
            inputs |= {"tokens": data / "index.json", "tokenizer": self.tokenizer / "tokenizer.json"}
        until = options.pop("until", None)
        return Job("small", spec, out, inputs, until, Execution(**{"threads": 1} | options))

    def start(self, out: Path, spec: dict, target: Callable | None = None, **options: object) -> Training:
        job = self.job(out, spec, **options)
        world, errors = job.execution.processes, Path(f"{out}.log")
        errors.unlink(missing_ok=True)
        port = free_port()
        ranks = [
            FORKS.Process(target=target or run_rank, args=(job, rank, world, port, errors)) for rank in range(world)
        ]
        for rank in ranks:
            rank.start()
        return Training(job, ranks, errors)

    def train(self, out: Path, spec: dict, **options: object) -> Path:
        """Train to the end and return the directory of the run."""
        training = self.start(out, spec, **options).wait()
        assert training.succeeded, training.messages
        if training.job.execution.processes > 1:
            publish(training.job)
        return out

    def fail(self, out: Path, spec: dict, **options: object) -> str:
        """Train in vain and return what was told."""
        training = self.start(out, spec, **options).wait()
        assert not training.succeeded
        return training.messages


def run_rank(job: Job, rank: int, world: int, port: int, errors: Path) -> None:
    """What a process of a training does: as the script, or as torchrun's agent starts it."""
    gc.freeze()  # what was loaded before the fork is no garbage
    os.environ.update(CUDA_VISIBLE_DEVICES="", DS_ACCELERATOR="cpu")
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, sys.stderr.fileno())
    if world > 1:
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}
        os.environ.update(address, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world))
    with reporting(errors) as report:
        pretrain(replace(job, report=report), [])


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def learned(out: Path) -> list[dict]:
    """The metrics of a run without what depends on the clock."""
    return [
        without(line, "seconds", "tokens_per_second", "samples_per_second")
        for line in read_jsonl(out / "metrics.jsonl")
    ]


def weights(out: Path) -> str:
    return sha256(out / "model" / "model.safetensors")


def exported(out: Path) -> dict[str, str]:
    """Checksums of all weights in the exported model of a run, by file."""
    folder = out / "model"
    return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*.safetensors"))}


def store(out: Path) -> Path:
    (found,) = (out / "checkpoints").iterdir()
    return found
