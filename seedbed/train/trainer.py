"""The training loop, one process per rank.

Every random choice is a function of (seed, step), and the data order of the step alone, so a resumed run does exactly
what the uninterrupted one would have done. A checkpoint is taken after an update and before that step's metrics, which
a resumed run writes itself: the checkpoint does not depend on whether that step was meant to be the last one.
"""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from math import isfinite
from typing import Any

import torch
import torch.distributed as dist

from seedbed.data.tokens import mixed
from seedbed.errors import SeedbedError
from seedbed.hardware import bf16_is_fast, keep_freed_memory
from seedbed.objectives.contract import Objective
from seedbed.registry import located
from seedbed.train import schedules, spikes, state
from seedbed.train.agreement import Agreement
from seedbed.train.checkpoints import Checkpoint, Saver
from seedbed.train.engine import Engine
from seedbed.train.execution import Batching, Execution, possible_micro_batches
from seedbed.train.job import Inputs, Job
from seedbed.train.memory import advice, estimate, out_of_memory_reported
from seedbed.train.metrics import MetricsLog
from seedbed.train.micro_batch import chosen_micro_batch
from seedbed.train.progress import Progress
from seedbed.train.result import Result, save_model, save_trunk
from seedbed.train.resume import initial_tensors, resume_point


def train(job: Job) -> None:
    """Train a run, or the rest of it, on this rank; the main process writes the result to `job.final`.

    Raises SeedbedError on every rank when the data does not fit, or, after saving, when a signal stopped the run.
    """
    rank, world = start_distributed(job.execution)
    Trainer(job, rank, world).run()
    if dist.is_initialized():
        dist.destroy_process_group()


def start_distributed(execution: Execution) -> tuple[int, int]:
    """Join the process group; return this rank and the number of ranks."""
    import deepspeed

    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    torch.set_num_threads(max(1, execution.threads // execution.processes))
    keep_freed_memory()
    # DeepSpeed would compile this on first use; a process killed meanwhile leaves a lock that blocks all later ones.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.utils.logging.set_log_level_from_string("error")
    if "RANK" not in os.environ:
        os.environ |= {
            "RANK": "0",
            "LOCAL_RANK": "0",
            "WORLD_SIZE": "1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": "0",
        }
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    deepspeed.init_distributed(dist_backend=backend, verbose=False, timeout=timedelta(minutes=30))
    return rank, world


def new_objective(job: Job) -> Objective:
    """Build the objective of a job, identical on every rank."""
    torch.manual_seed(job.spec["seed"])
    left_out = {"trunk"} | ({"init"} if job.initial_checkpoint else set())  # loaded into the model later
    inputs = Inputs({name: path for name, path in job.inputs.items() if name not in left_out})
    return located(job.kind.objective_class)(job.spec, inputs)


class RolledBack(Exception):
    """Raised at a loss spike: training resumes from `checkpoint` (None: from scratch) with the spike state `watch`."""

    def __init__(self, checkpoint: Checkpoint | None, watch: dict) -> None:
        self.checkpoint, self.watch = checkpoint, watch


@dataclass
class Trainer:
    """Trains a job on one rank: steps, metrics, checkpoints, and rollback after a loss spike."""

    job: Job
    rank: int
    world: int

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def spec(self) -> dict:
        return self.job.spec

    def run(self) -> None:
        with out_of_memory_reported(self.job.name, self.memory_advice), self.signals_deferred():
            self.objective = new_objective(self.job)
            self.sizes, unit = self.objective.sizes(), self.job.unit
            epoch = self.objective.epoch_samples
            self.steps = unit.steps(self.spec["budget"], epoch and epoch * unit.per_sample)
            self.until = min(self.job.until or self.steps, self.steps)
            self.batching = self.choose_batching()
            self.agreement = Agreement(self.world)
            self.saver = Saver(self.job.store, self.job.execution.checkpoint_keep) if self.is_main else None
            try:
                self.train_from(resume_point(self.job, self.steps, self.until, self.is_main))
            finally:
                if self.is_main:
                    self.saver.close()

    def train_from(self, checkpoint: Checkpoint | None) -> None:
        watch = None
        while True:
            self.build(checkpoint, watch)
            try:
                self.train_steps()
                break
            except RolledBack as back:
                checkpoint, watch, self.objective = back.checkpoint, back.watch, new_objective(self.job)
            finally:
                if self.is_main:
                    self.log.close()
        self.agreement.finish()
        (save_trunk if self.job.until else save_model)(self.job, self.result(), self.objective, self.engine)

    # --- setting up ---------------------------------------------------------------------------------------------------

    def choose_batching(self) -> Batching:
        precision = resolved_precision(self.spec["precision"])
        chosen = chosen_micro_batch(self.job, self.objective, self.sizes, precision)
        return Batching.of(self.job.unit, self.job.execution, self.steps, chosen)

    def build(self, checkpoint: Checkpoint | None, watch: dict | None) -> None:
        """Build the engine and restore the training state of the checkpoint."""
        manifest = checkpoint.manifest if checkpoint else {}
        own = not checkpoint or checkpoint.folder.parent == self.job.store
        self.progress = Progress.at(manifest, own, watch)
        self.precision = manifest.get("precision") or resolved_precision(self.spec["precision"])
        self.objective.prepare(self.precision)
        weights, moments = initial_tensors(self.job, checkpoint)
        if weights:
            state.load_weights(self.objective.loss_module, weights)
        self.engine = Engine(self.objective, self.spec, self.job.execution, self.batching, self.precision)
        if moments:
            self.engine.load_optimizer_state(moments)
        interval = manifest.get("interval")
        if checkpoint:
            ahead = self.batching.samples(self.progress.step + manifest["watch"]["skipped"], self.rank)
            self.objective.load_state_dict(checkpoint.tensors("objective"), ahead, self.engine.device)
            self.engine.last_norm = torch.tensor(interval["grad_norm"])
            self.job.report(f"{self.job.name}: resumes at step {self.progress.step}")
        self.progress.open_interval(self.spec["log_every"], self.engine.device, interval)
        if self.is_main:
            self.saver.forget_after(self.progress.step)
            self.log = MetricsLog(self.job, self.progress.step, self.steps, checkpoint)

    # --- the loop -----------------------------------------------------------------------------------------------------

    def train_steps(self) -> None:
        saved, progress = time.monotonic(), self.progress
        progress.count_from_now()
        if progress.step:
            self.close_step()  # a checkpoint is taken before its step's metrics
        for batches in self.prefetched():
            self.update(batches)
            flags = self.stop_signal is not None, self.checkpoint_due(saved)
            stop, due = self.agreement.exchange(*flags)
            if stop or due or progress.step in self.kept_steps() or progress.step == self.until:
                self.save(wait=stop or progress.step == self.until)
                saved = time.monotonic()
            self.close_step()
            if stop and progress.step < self.until:
                raise SeedbedError(
                    f"{self.job.name}: stopped by a signal after step {progress.step}; the same command resumes it"
                )

    def close_step(self) -> None:
        """Finish a step after its checkpoint; a trunk leaves this to its branches at its last step."""
        if self.progress.step < self.until:
            self.measure()
        elif not self.job.until:
            self.measure(last=True)

    def update(self, batches: list[tuple[range, Any]]) -> None:
        """One optimizer step."""
        step = self.progress.step
        torch.manual_seed(mixed(mixed(self.spec["seed"]) ^ step) ^ self.rank)  # for dropout
        self.engine.update(batches, self.learning_rate(step), self.progress.loss)
        self.objective.step_done()
        self.progress.step += 1
        if self.is_main:
            self.log.advance()

    def learning_rate(self, step: int) -> float:
        ratio = schedules.lr_ratio(self.spec["schedule"], step, self.steps, self.progress.plateau["ratio"])
        return self.spec["optimizer"]["lr"] * ratio

    def prefetched(self) -> Iterator[list[tuple[range, Any]]]:
        """The micro-batches of each remaining step, read while the step before is computed where that is possible."""
        first = self.progress.step
        if not self.objective.reads_ahead:
            yield from (self.read(step) for step in range(first, self.until))
            return
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self.read, first) if first < self.until else None
            for step in range(first, self.until):
                batches = ahead.result()
                if step + 1 < self.until:
                    ahead = reader.submit(self.read, step + 1)
                yield batches

    def read(self, step: int) -> list[tuple[range, Any]]:
        """Sample numbers and tensors of the micro-batches of a step; batches of spikes are skipped."""
        batches = []
        for numbers in self.batching.samples(step + self.progress.watch["skipped"], self.rank):
            batch = self.objective.batch(numbers)
            batches.append((numbers, batch.pin_memory() if torch.cuda.is_available() else batch))
        return batches

    @contextmanager
    def signals_deferred(self) -> Iterator[None]:
        """Remember signals to stop instead of obeying them, so that training saves first."""
        self.stop_signal = None

        def remember(number: int, _frame: object) -> None:
            self.stop_signal = number

        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
        previous = {number: signal.signal(number, remember) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    # --- measuring ----------------------------------------------------------------------------------------------------

    def measure(self, last: bool = False) -> None:
        """Write this step's line of metrics, if due, and check the losses since the last one for spikes.

        Raises RolledBack after a spike, SeedbedError when training cannot continue.
        """
        progress, unit = self.progress, self.job.unit
        validate = last or progress.step % self.spec["validation"]["every"] == 0
        if not validate and progress.step % self.spec["log_every"]:
            return
        progress.count_seconds()
        steps, losses = progress.interval_steps, progress.interval_losses()
        self.look_for_spikes(losses)
        rate = steps * unit.per_step / max(1e-9, progress.seconds - progress.interval_seconds)
        line = {
            "step": progress.step,
            unit.name: progress.step * unit.per_step,
            "seconds": round(progress.seconds, 3),
            "loss": sum(losses) / steps,
            "lr": self.learning_rate(progress.step - 1),
            "grad_norm": self.engine.gradient_norm(),
            unit.speed: round(rate, 1),
        }
        line |= {name: float(value) for name, value in self.objective.diagnostics().items()}
        if validate:
            line |= {f"valid_{name}": value for name, value in self.validation().items()}
            if self.spec["schedule"]["kind"] == "plateau":
                progress.plateau = schedules.after_validation(
                    self.spec["schedule"], progress.plateau, line["valid_loss"]
                )
        if progress.watch["skipped"]:
            line["skipped_batches"] = progress.watch["skipped"]
        if self.is_main:
            self.log.write(line)
        progress.open_interval(self.spec["log_every"], self.engine.device)
        progress.count_from_now()

    @torch.no_grad()
    def validation(self) -> dict[str, float]:
        """Means over all validation samples, by name; each rank computes its share."""
        self.engine.module.eval()
        numbers = self.objective.validation_numbers()
        own, size = numbers[self.rank :: self.world], self.batching.micro_batch
        # A rank without samples evaluates one with weight 0: the all-reduce needs the same names everywhere.
        parts = [own[first : first + size] for first in range(0, len(own), size)] or [numbers[:1]]
        sums = {}
        for part in parts:
            batch = self.objective.validation_batch(part).to(self.engine.device)
            weight = len(part) if len(own) else 0
            for name, mean in self.objective.validate(self.engine.module, batch).items():
                sums[name] = sums.get(name, 0) + mean.double() * weight
        total = torch.stack(list(sums.values()))
        dist.all_reduce(total)
        self.engine.module.train()
        return dict(zip(sums, (total / len(numbers)).tolist(), strict=True))

    # --- loss spikes --------------------------------------------------------------------------------------------------

    def look_for_spikes(self, losses: list[float]) -> None:
        spec, progress = self.spec["spikes"], self.progress
        if spec is None:
            if not all(isfinite(loss) for loss in losses):
                raise SeedbedError(
                    f"{self.job.name}: the loss is not finite at step {progress.step}; try a smaller optimizer.lr, "
                    "or set `spikes` to roll back and skip batches"
                )
            return
        found = spikes.find_spike(spec, progress.watch["recent"], losses)
        if not found:
            progress.watch = spikes.calm(spec, progress.watch, losses)
            return
        index, limit = found
        step, loss = progress.interval_step + index + 1, losses[index]
        message, met = f"{self.job.name}: loss spike at step {step} ({loss:.3f})", progress.watch["met"]
        if len(met) >= spec["max_rollbacks"]:
            raise SeedbedError(f"{message} after {len(met)} rollbacks; try a smaller optimizer.lr")
        checkpoint = self.roll_back(spikes.way_back(spec, step))
        back_to = checkpoint.step if checkpoint else 0
        spike = {"step": step, "loss": loss if isfinite(loss) else None, "limit": limit, "back_to": back_to}
        saved = checkpoint.manifest["watch"] if checkpoint else spikes.watch_start()
        self.job.report(f"{message}: rolling back to step {back_to} and skipping {step - back_to} batches")
        raise RolledBack(checkpoint, spikes.after_rollback(progress.watch, spike, saved))

    def roll_back(self, step: int) -> Checkpoint | None:
        """Remove the checkpoints after `step`; return the last intact one up to it."""
        if self.is_main:
            self.saver.forget_after(step)
        dist.barrier()
        return resume_point(self.job, self.steps, self.until, self.is_main, most=step)

    # --- saving -------------------------------------------------------------------------------------------------------

    def checkpoint_due(self, saved: float) -> bool:
        execution = self.job.execution
        by_step = execution.checkpoint_steps and self.progress.step % execution.checkpoint_steps == 0
        return self.is_main and bool(by_step or time.monotonic() - saved > execution.checkpoint_seconds)

    def kept_steps(self) -> set[int]:
        """Steps whose checkpoints are always taken and kept: runs may branch off there, and rollbacks lead there."""
        kept = {schedules.stable_until(self.spec["schedule"], self.steps)}
        if spec := self.spec["spikes"]:
            steps = (self.progress.interval_step + 1, self.progress.step + 1)
            kept |= {spikes.way_back(spec, step) for step in steps}
        return kept - {0}

    def save(self, wait: bool) -> None:
        """Copy the state, to be written while training continues."""
        self.progress.count_seconds()
        files = {"weights": self.engine.weights(self.is_main), "optimizer": self.engine.optimizer_state(self.is_main)}
        states = [None] * self.world
        dist.gather_object(self.objective.state_dict(), states if self.is_main else None)
        step = self.progress.step
        facts = {"identity": self.job.identity_at(step, self.steps), "precision": self.precision}
        facts |= self.progress.facts(self.engine.gradient_norm())
        if self.is_main:
            files["objective"] = {name: tensor.contiguous() for part in states for name, tensor in part.items()}
            self.saver.save(step, files, facts, self.log.path.read_text(encoding="utf-8"), self.kept_steps())
            if wait:
                self.saver.wait()
        self.progress.count_from_now()

    # --- at the end ---------------------------------------------------------------------------------------------------

    def result(self) -> Result:
        progress, samples, epoch = self.progress, self.batching.per_step, self.objective.epoch_samples
        return Result(
            step=progress.step,
            begun=progress.begun,
            seconds=progress.seconds,
            spikes=progress.watch["met"],
            epochs=epoch and progress.step * samples / epoch,
            precision=self.precision,
            batching=self.batching,
            sizes=self.sizes,
        )

    def memory_advice(self) -> str:
        if not hasattr(self, "batching"):
            return "not even the model fits; try a smaller model"
        size, execution = self.batching.micro_batch, self.job.execution
        smaller = [n for n in possible_micro_batches(self.job.unit, execution) if n < size]
        return advice(estimate(self.sizes, size, execution), size, execution, smaller[:1])


def resolved_precision(precision: str) -> str:
    if precision == "auto":
        return "bf16" if bf16_is_fast() else "fp32"
    return precision
