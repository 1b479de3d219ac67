"""The training loop on DeepSpeed, one call per rank.

Every random choice is a function of (seed, step), and the data order of the step alone, so that a run that goes on from
a checkpoint does what it would have done. Precision `bf16` is autocast over fp32 weights: the optimizer and what is
exported are fp32 at every ZeRO stage. A checkpoint is the state after an update and before that step's metrics, which a
run that goes on from it writes again: so it does not matter to it whether that step was to be the last one.
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

from seedbed.errors import SeedbedError
from seedbed.hardware import keep_freed_memory
from seedbed.objectives import objective
from seedbed.tokens import mixed
from seedbed.train import schedules, spikes, state
from seedbed.train.agreement import Agreement
from seedbed.train.checkpoints import Checkpoint, Saver
from seedbed.train.execution import Batching, Execution, possible_micro_batches, steps_of
from seedbed.train.finish import leave_model, leave_trunk
from seedbed.train.launch import Job
from seedbed.train.memory import advice, estimate, running_out_told
from seedbed.train.metrics import MetricsLog
from seedbed.train.micro_batch import chosen_micro_batch
from seedbed.train.optimizers import build_optimizer
from seedbed.train.resume import initial_tensors, resume_point
from seedbed.train.schedules import lr_ratio


def train(job: Job) -> None:
    """Train one run, or the rest of it, on this rank; rank 0 leaves the result in `job.final`.

    Raises SeedbedError on every rank when the data does not fit, or when a signal stopped the run (after saving).
    """
    rank, world = start_distributed(job.execution)
    Trainer(job, rank, world).run()
    if dist.is_initialized():
        dist.destroy_process_group()


def start_distributed(execution: Execution) -> tuple[int, int]:
    """Join the other ranks; return the rank and how many there are."""
    import deepspeed

    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    torch.set_num_threads(max(1, execution.threads // execution.processes))
    keep_freed_memory()
    # DeepSpeed would compile this on first use; a process killed during that leaves a lock that blocks all later ones.
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


class RolledBack(Exception):
    """A loss spike: training goes on from another checkpoint (None: from the start) with another state of the watch."""

    def __init__(self, checkpoint: Checkpoint | None, watch: dict) -> None:
        self.checkpoint, self.watch = checkpoint, watch


@dataclass
class Trainer:
    job: Job
    rank: int
    world: int

    @property
    def leader(self) -> bool:
        return self.rank == 0

    @property
    def spec(self) -> dict:
        return self.job.spec

    @property
    def stage(self) -> int:
        return self.job.execution.zero_stage

    def run(self) -> None:
        with running_out_told(self.job.name, self.memory_advice), self.listening():
            self.objective = self.new_objective()
            self.steps = steps_of(self.spec, self.objective.epoch_sequences)
            self.until = min(self.job.until or self.steps, self.steps)
            self.batching = self.choose_batching()
            self.agreement = Agreement(self.world)
            self.saver = Saver(self.job.store, self.job.execution.checkpoint_keep) if self.leader else None
            try:
                self.train_from(resume_point(self.job, self.steps, self.until, self.leader))
            finally:
                if self.leader:
                    self.saver.close()

    def train_from(self, checkpoint: Checkpoint | None) -> None:
        watch = None
        while True:
            self.build(checkpoint, watch)
            try:
                self.train_steps()
                break
            except RolledBack as back:
                checkpoint, watch, self.objective = back.checkpoint, back.watch, self.new_objective()
            finally:
                if self.leader:
                    self.log.close()
        self.agreement.settle()
        (leave_trunk if self.job.until else leave_model)(self)

    # --- setting up ---------------------------------------------------------------------------------------------------

    def new_objective(self):
        torch.manual_seed(self.spec["seed"])  # every rank builds the same model
        init = self.job.init
        model = init if init and not (init / "manifest.json").exists() else None
        return objective(self.spec, self.job.tokens, model)

    def choose_batching(self) -> Batching:
        chosen = chosen_micro_batch(self.job, self.objective, resolved_precision(self.spec["precision"]))
        return Batching.of(self.spec, self.job.execution, self.steps, chosen)

    def build(self, checkpoint: Checkpoint | None, watch: dict | None) -> None:
        """The DeepSpeed engine and everything that changes while training, as the checkpoint has it."""
        import deepspeed

        known = checkpoint.manifest if checkpoint else {}
        self.step, self.seconds = known.get("step", 0), known.get("seconds", 0.0)
        self.precision = known.get("precision") or resolved_precision(self.spec["precision"])
        mine = not checkpoint or checkpoint.folder.parent == self.job.store
        self.begun = known.get("begun", 0) if mine else self.step  # how many updates were made for another run
        self.watch = watch or known.get("watch") or spikes.watch_start()
        self.plateau = known.get("plateau") or schedules.plateau_start()
        self.objective.settle(self.precision)
        weights, moments = initial_tensors(self.job, checkpoint)
        if weights:
            state.load_weights(self.objective.loss_module, weights)
        if self.job.execution.gradient_checkpointing:
            self.objective.model.gradient_checkpointing_enable({"use_reentrant": False})
        if self.job.execution.compile:
            self.objective.compile()
        optimizer = build_optimizer(self.objective.loss_module, self.spec["optimizer"])
        self.engine, *_ = deepspeed.initialize(
            model=self.objective.loss_module, optimizer=optimizer, config=self.deepspeed_config()
        )
        self.engine.train()  # a model that was loaded has dropout and checkpointing switched off
        if self.world == 1 and not self.stage:
            self.engine.enable_backward_allreduce = False  # it would copy all gradients for nothing
        if moments:
            state.load_optimizer_state(self.engine, self.stage, moments)
        if checkpoint:
            rows = {int(row): tensor for row, tensor in checkpoint.tensors("rows").items()}
            next_batch = self.step + known["watch"]["skipped"]
            self.objective.load_state(rows, self.batching.sequences(next_batch, self.rank), self.engine.device)
            self.job.report(f"{self.job.name}: goes on from step {self.step}")
        self.open_interval(known.get("interval"))
        if self.leader:
            self.saver.forget_after(self.step)
            self.log = MetricsLog(self.job.store, self.job.name, self.step, self.steps, checkpoint)

    def deepspeed_config(self) -> dict:
        zero = {"stage": self.stage}
        if self.job.execution.offload == "cpu":
            zero["offload_optimizer"] = {"device": "cpu"}
        return {
            "train_micro_batch_size_per_gpu": self.batching.micro_batch,
            "gradient_accumulation_steps": self.batching.accumulation * self.objective.parts,
            # DeepSpeed takes a missing value for 1; without ZeRO it does not tell the norm, so that is done here.
            "gradient_clipping": 0.0 if self.clips_itself else self.spec["clip"] or 0.0,
            "zero_optimization": zero,
            "zero_allow_untested_optimizer": True,
            # Its own CPU kernel would be compiled at first use; torch has a fused one.
            "zero_force_ds_cpu_optimizer": False,
            "torch_autocast": {"enabled": self.precision == "bf16", "dtype": "bfloat16"},
            "steps_per_print": 10**9,
        }

    @property
    def clips_itself(self) -> bool:
        return self.stage == 0

    # --- the loop -----------------------------------------------------------------------------------------------------

    def train_steps(self) -> None:
        saved, self.started = time.monotonic(), self.clock()
        if self.step:
            self.close_step()  # what the checkpoint that this goes on from had still to do
        for batches in self.prefetched():
            self.update(batches)
            wishes = self.stop_signal is not None, self.checkpoint_due(saved)
            stop, due = self.agreement.exchange(*wishes)
            if stop or due or self.step in self.kept_steps() or self.step == self.until:
                self.save(wait=stop or self.step == self.until)
                saved = time.monotonic()
            self.close_step()
            if stop and self.step < self.until:
                raise SeedbedError(
                    f"{self.job.name}: stopped by a signal after step {self.step}; the same command goes on"
                )

    def close_step(self) -> None:
        """What comes after the checkpoint of a step; a trunk leaves that of its last one to its branches."""
        if self.step < self.until:
            self.measure()
        elif not self.job.until:
            self.measure(last=True)

    def update(self, batches: list[tuple[range, Any]]) -> None:
        """One optimizer step."""
        torch.manual_seed(mixed(mixed(self.spec["seed"]) ^ self.step) ^ self.rank)  # for dropout
        for group in self.engine.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step)
        for numbers, batch in batches:
            batch = batch.to(self.engine.device, non_blocking=True)
            for loss in self.objective.losses(self.engine, batch, numbers):
                self.engine.backward(loss)
                self.clip_gradients()
                self.engine.step()
                self.losses[self.step - self.logged_step] += loss.detach() / self.engine.gradient_accumulation_steps()
        self.step += 1

    def learning_rate(self, step: int) -> float:
        ratio = lr_ratio(self.spec["schedule"], step, self.steps, self.plateau["ratio"])
        return self.spec["optimizer"]["lr"] * ratio

    def clip_gradients(self) -> None:
        if self.clips_itself and self.engine.is_gradient_accumulation_boundary():
            limit = self.spec["clip"] or float("inf")
            self.gradient_norm = torch.nn.utils.clip_grad_norm_(self.engine.module.parameters(), limit)

    def prefetched(self) -> Iterator[list[tuple[range, Any]]]:
        """The micro-batches of each remaining step; the next step's are read while this one's are computed."""
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self.read, self.step) if self.step < self.until else None
            for step in range(self.step, self.until):
                batches = ahead.result()
                if step + 1 < self.until:
                    ahead = reader.submit(self.read, step + 1)
                yield batches

    def read(self, step: int) -> list[tuple[range, Any]]:
        """Sequence numbers and tensors of the micro-batches of a step; batches that a spike spoiled are left out."""
        found = []
        for numbers in self.batching.sequences(step + self.watch["skipped"], self.rank):
            batch = self.objective.batch(numbers)
            found.append((numbers, batch.pin_memory() if torch.cuda.is_available() else batch))
        return found

    @staticmethod
    def clock() -> float:
        """Seconds, read once the device has done what it was given."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def count_seconds(self) -> None:
        now = self.clock()
        self.seconds += now - self.started
        self.started = now

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take signals to stop as a wish to save first."""
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

    def open_interval(self, kept: dict | None = None) -> None:
        """Begin to collect what the next line of metrics tells, or go on with what a checkpoint had of it."""
        kept = kept or {"step": self.step, "seconds": self.seconds, "losses": [[]], "grad_norm": 0.0}
        self.logged_step, self.logged_seconds = kept["step"], kept["seconds"]
        self.gradient_norm = torch.tensor(kept["grad_norm"])
        losses = kept["losses"]
        mine = losses[self.rank] if len(losses) == self.world else means(losses)
        self.losses = torch.zeros(self.spec["log_every"], device=self.engine.device)
        self.losses[: len(mine)] = torch.tensor(mine, device=self.engine.device)

    def interval(self) -> dict:
        """What `open_interval` goes on with: the losses of the steps since the last line, of each rank."""
        losses = [None] * self.world
        dist.all_gather_object(losses, self.losses[: self.step - self.logged_step].tolist())
        return {
            "step": self.logged_step,
            "seconds": self.logged_seconds,
            "losses": losses,
            "grad_norm": self.grad_norm(),
        }

    def grad_norm(self) -> float:
        """Norm of the last step's gradient over all weights, before clipping."""
        norm = self.engine.get_global_grad_norm() if not self.clips_itself else None
        return float(self.gradient_norm if norm is None else norm)

    def measure(self, last: bool = False) -> None:
        """Write the line of metrics of this step, if it is due, and see whether all is well.

        Raises RolledBack after a spike, SeedbedError when there is no way on.
        """
        validate = last or self.step % self.spec["validation"]["every"] == 0
        if not validate and self.step % self.spec["log_every"]:
            return
        self.count_seconds()
        steps = self.step - self.logged_step
        losses = self.losses[:steps] / self.world
        dist.all_reduce(losses, op=dist.ReduceOp.SUM)
        losses = losses.tolist()
        self.look_for_spikes(losses)
        line = {
            "step": self.step,
            "tokens": self.step * self.spec["batch_tokens"],
            "seconds": round(self.seconds, 3),
            "loss": sum(losses) / steps,
            "lr": self.learning_rate(self.step - 1),
            "grad_norm": self.grad_norm(),
            "tokens_per_second": round(
                steps * self.spec["batch_tokens"] / max(1e-9, self.seconds - self.logged_seconds), 1
            ),
        }
        line |= {name: float(value) for name, value in self.objective.diagnostics().items()}
        if validate:
            line |= {f"valid_{name}": value for name, value in self.validation().items()}
            if self.spec["schedule"]["kind"] == "plateau":
                self.plateau = schedules.after_validation(self.spec["schedule"], self.plateau, line["valid_loss"])
        if self.watch["skipped"]:
            line["skipped_batches"] = self.watch["skipped"]
        if self.leader:
            self.log.write(line)
        self.open_interval()
        self.started = self.clock()

    @torch.no_grad()
    def validation(self) -> dict[str, float]:
        """Means of the figures of all validation sequences, shared out among the ranks."""
        self.engine.eval()
        numbers = self.objective.validation()
        mine, size = numbers[self.rank :: self.world], self.batching.micro_batch
        # Ranks without a sequence look at one for nothing: they have to know the figures.
        parts = [mine[first : first + size] for first in range(0, len(mine), size)] or [numbers[:1]]
        sums = {"sequences": torch.zeros((), dtype=torch.float64, device=self.engine.device)}
        for part in parts:
            batch = self.objective.validation_batch(part).to(self.engine.device)
            weight = len(part) if len(mine) else 0
            found = self.objective.evaluation(self.engine, batch) | {"sequences": torch.ones(())}
            for name, mean in found.items():
                sums[name] = sums.get(name, 0) + mean.double().to(self.engine.device) * weight
        total = torch.stack(list(sums.values()))
        dist.all_reduce(total)
        self.engine.train()
        return dict(zip(list(sums)[1:], (total[1:] / total[0]).tolist(), strict=True))

    # --- when the loss jumps ------------------------------------------------------------------------------------------

    def look_for_spikes(self, losses: list[float]) -> None:
        spec = self.spec["spikes"]
        if spec is None:
            if not all(isfinite(loss) for loss in losses):
                raise SeedbedError(
                    f"{self.job.name}: the loss is not a number at step {self.step}; try a smaller optimizer.lr, "
                    "or set spikes to go back and skip"
                )
            return
        found = spikes.find_spike(spec, self.watch["recent"], losses)
        if not found:
            self.watch = spikes.calm(spec, self.watch, losses)
            return
        index, limit = found
        step, loss = self.logged_step + index + 1, losses[index]
        told = f"{self.job.name}: the loss {loss:.3f} of step {step} is a spike"
        if len(self.watch["met"]) >= spec["max_rollbacks"]:
            raise SeedbedError(f"{told}, after {len(self.watch['met'])} rollbacks; try a smaller optimizer.lr")
        checkpoint = self.go_back(spikes.way_back(spec, step))
        back_to = checkpoint.step if checkpoint else 0
        spike = {"step": step, "loss": loss if isfinite(loss) else None, "limit": limit, "back_to": back_to}
        kept = checkpoint.manifest["watch"] if checkpoint else spikes.watch_start()
        self.job.report(f"{told}: goes back to step {back_to} and leaves out {step - back_to} batches")
        raise RolledBack(checkpoint, spikes.after_rollback(self.watch, spike, kept))

    def go_back(self, step: int) -> Checkpoint | None:
        """Forget what came after `step` and open the last whole checkpoint up to there."""
        if self.leader:
            self.saver.forget_after(step)
        dist.barrier()
        return resume_point(self.job, self.steps, self.until, self.leader, most=step)

    # --- saving -------------------------------------------------------------------------------------------------------

    def checkpoint_due(self, saved: float) -> bool:
        execution = self.job.execution
        by_step = execution.checkpoint_steps and self.step % execution.checkpoint_steps == 0
        return self.leader and bool(by_step or time.monotonic() - saved > execution.checkpoint_seconds)

    def kept_steps(self) -> set[int]:
        """Steps whose checkpoints are always made and kept: where others may branch off, where spikes lead back to."""
        kept = {schedules.stable_until(self.spec["schedule"], self.steps)}
        if spec := self.spec["spikes"]:
            kept |= {spikes.way_back(spec, step) for step in (self.logged_step + 1, self.step + 1)}
        return kept - {0}

    def save(self, wait: bool) -> None:
        """Take a copy of the state, to be written while training goes on."""
        self.count_seconds()
        files = {
            "weights": state.weights_of(self.engine, self.stage, self.leader),
            "optimizer": state.optimizer_state_of(self.engine, self.stage, self.leader),
        }
        rows = [None] * self.world
        dist.gather_object(self.objective.state(), rows if self.leader else None)
        facts = {
            "identity": self.job.identity_at(self.step, self.steps),
            "begun": self.begun,
            "precision": self.precision,
            "seconds": self.seconds,
            "interval": self.interval(),
            "watch": self.watch,
            "plateau": self.plateau,
        }
        if self.leader:
            files["rows"] = {str(row): tensor.contiguous() for found in rows for row, tensor in found.items()}
            self.saver.save(self.step, files, facts, self.kept_steps())
            if wait:
                self.saver.wait()
        self.started = self.clock()

    # --- memory -------------------------------------------------------------------------------------------------------

    def memory_advice(self) -> str:
        if not hasattr(self, "batching"):
            return "not even the model fits; try a smaller one"
        config, size = self.objective.model.config, self.batching.micro_batch
        parameters = sum(parameter.numel() for parameter in self.objective.model.parameters())
        tokens, execution = size * self.spec["seq_len"], self.job.execution
        sizes = estimate(parameters, config.num_hidden_layers, config.hidden_size, tokens, execution)
        smaller = [n for n in possible_micro_batches(self.spec, execution) if n < size]
        return advice(sizes, size, execution, smaller[:1])


def means(lists: list[list[float]]) -> list[float]:
    """Element by element over ranks of another layout."""
    return [sum(values) / len(values) for values in zip(*lists, strict=True)]


def resolved_precision(precision: str) -> str:
    if precision == "auto":
        from seedbed.hardware import bf16_is_fast

        return "bf16" if bf16_is_fast() else "fp32"
    return precision
