"""The training loop on DeepSpeed, one call per rank.

Every random choice is a function of (seed, step), and the data order of the step alone, so that a run that goes on from
a checkpoint does what it would have done. Precision `bf16` is autocast over fp32 weights: the optimizer and what is
exported are fp32 at every ZeRO stage.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from seedbed.errors import SeedbedError
from seedbed.files import read_json, replacing, write_json
from seedbed.hardware import bf16_is_fast, git_revision, machine, peak_memory_bytes, software
from seedbed.objectives.lm import LanguageModelling, export
from seedbed.tokens import mixed
from seedbed.train import checkpoints
from seedbed.train.execution import Batching, Execution
from seedbed.train.launch import Job
from seedbed.train.metrics import MetricsLog, whole_lines
from seedbed.train.optimizers import build_optimizer
from seedbed.train.schedules import lr_ratio


def train(job: Job) -> None:
    """Train one run, or the rest of it, on this rank; rank 0 leaves the result in `job.store / "final"`.

    Raises SeedbedError on every rank when the data does not fit, or when a signal stopped the run (after saving).
    """
    rank, world = start_distributed(job.execution)
    torch.manual_seed(job.spec["seed"])  # every rank builds the same model
    objective = LanguageModelling(job.spec, job.tokens, job.init)
    trainer = Trainer(job, objective, Batching.of(job.spec, job.execution, objective.epoch_sequences), rank, world)
    trainer.run()
    if dist.is_initialized():
        dist.destroy_process_group()


def start_distributed(execution: Execution) -> tuple[int, int]:
    """Join the other ranks; return the rank and how many there are."""
    import deepspeed

    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    torch.set_num_threads(max(1, execution.threads // execution.processes))
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


@dataclass
class Trainer:
    job: Job
    objective: LanguageModelling
    batching: Batching
    rank: int
    world: int

    def run(self) -> None:
        manifest = self.resume_point()
        self.step = manifest["step"] if manifest else 0
        self.seconds = manifest["seconds"] if manifest else 0.0
        self.precision = manifest["precision"] if manifest else resolved_precision(self.job.spec["precision"])
        self.build(manifest)
        self.open_interval(manifest)
        self.stop_signal = None
        previous = {
            name: signal.signal(name, self.on_signal) for name in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
        }
        try:
            self.log = (
                MetricsLog(self.job.store, self.job.name, self.step, self.batching.steps) if self.rank == 0 else None
            )
            self.train_steps()
        finally:
            for name, handler in previous.items():
                signal.signal(name, handler)
            if self.rank == 0:
                self.log.close()
        self.finish()

    # --- setting up ---------------------------------------------------------------------------------------------------

    def resume_point(self) -> dict | None:
        """The manifest of the checkpoint to go on from, the same on every rank."""
        found = [checkpoints.newest(self.job.store, self.job.report) if self.rank == 0 else None]
        dist.broadcast_object_list(found)
        layout = self.layout()
        if found[0] and found[0]["layout"] != layout:
            raise SeedbedError(
                f"{self.job.name}: its checkpoint at step {found[0]['step']} was written by "
                f"{describe(found[0]['layout'])}; found {describe(layout)}: go on with the former"
            )
        return found[0]

    def layout(self) -> dict:
        """What a checkpoint's files depend on: nothing without ZeRO, where every process holds everything."""
        stage = self.job.execution.zero_stage
        return {"zero_stage": stage, "processes": self.world if stage else 1}

    def build(self, manifest: dict | None) -> None:
        import deepspeed

        optimizer = build_optimizer(self.objective.model, self.job.spec["optimizer"])
        self.engine, *_ = deepspeed.initialize(
            model=self.objective.model, optimizer=optimizer, config=self.deepspeed_config()
        )
        if manifest:
            folder = checkpoints.folder_of(self.job.store, self.step)
            loaded, _ = self.engine.load_checkpoint(str(folder.parent), tag=folder.name)
            if loaded is None:
                raise SeedbedError(f"{folder}: cannot be loaded; delete it to go on from the one before")
            self.job.report(f"{self.job.name}: goes on from step {self.step}")

    def open_interval(self, manifest: dict | None = None) -> None:
        """Begin to average what the next line of metrics tells, or go on with what a checkpoint had of it."""
        kept = manifest["interval"] if manifest else {"step": self.step, "seconds": self.seconds, "losses": [0.0]}
        self.logged_step, self.logged_seconds, losses = kept["step"], kept["seconds"], kept["losses"]
        mine = losses[self.rank] if len(losses) == self.world else sum(losses) / len(losses)
        self.loss = torch.tensor(mine, device=self.engine.device)

    def interval(self) -> dict:
        """What `open_interval` goes on with: the losses of the steps since the last line, summed on each rank."""
        losses = [None] * self.world
        dist.all_gather_object(losses, float(self.loss))
        return {"step": self.logged_step, "seconds": self.logged_seconds, "losses": losses}

    def deepspeed_config(self) -> dict:
        return {
            "train_micro_batch_size_per_gpu": self.batching.micro_batch,
            "gradient_accumulation_steps": self.batching.accumulation,
            "gradient_clipping": 0.0 if self.clips_itself else self.job.spec["clip"] or 0.0,
            "zero_optimization": {"stage": self.job.execution.zero_stage},
            "zero_allow_untested_optimizer": True,
            "torch_autocast": {"enabled": self.precision == "bf16", "dtype": "bfloat16"},
            "steps_per_print": 10**9,
        }

    @property
    def clips_itself(self) -> bool:
        """Without ZeRO, DeepSpeed clips but does not tell the norm."""
        return self.job.execution.zero_stage == 0

    # --- the loop -----------------------------------------------------------------------------------------------------

    def train_steps(self) -> None:
        spec, device = self.job.spec, self.engine.device
        saved, started = time.monotonic(), self.clock()
        for batches in self.prefetched():
            torch.manual_seed(mixed(mixed(spec["seed"]) ^ self.step) ^ self.rank)  # for dropout
            ratio = lr_ratio(spec["schedule"], self.step, self.batching.steps)
            for group in self.engine.optimizer.param_groups:
                group["lr"] = spec["optimizer"]["lr"] * ratio
            for tokens in batches:
                micro_loss = self.objective.loss(self.engine, tokens.to(device, non_blocking=True))
                self.engine.backward(micro_loss)
                self.clip_gradients()
                self.engine.step()
                self.loss += micro_loss.detach() / len(batches)
            self.step += 1
            last = self.step == self.batching.steps
            validate = last or self.step % spec["validation"]["every"] == 0
            if last or validate or self.step % spec["log_every"] == 0:
                self.seconds += self.clock() - started
                self.write_metrics(ratio, validate)
                self.open_interval()
                started = self.clock()
            if self.rank == 0:
                self.log.advance()
            stop, due = self.agreed(time.monotonic() - saved > self.job.execution.checkpoint_seconds)
            if last or stop or due:
                self.seconds += self.clock() - started
                self.save()
                saved, started = time.monotonic(), self.clock()
            if stop and not last:
                raise SeedbedError(
                    f"{self.job.name}: stopped by a signal after step {self.step}; the same command goes on"
                )

    @staticmethod
    def clock() -> float:
        """Seconds, read once the device has done what it was given."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def clip_gradients(self) -> None:
        if self.clips_itself and self.engine.is_gradient_accumulation_boundary():
            limit = self.job.spec["clip"] or float("inf")
            self.gradient_norm = torch.nn.utils.clip_grad_norm_(self.engine.module.parameters(), limit)

    def grad_norm(self) -> float:
        """Norm of the last step's gradient over all weights, before clipping."""
        return float(self.gradient_norm if self.clips_itself else self.engine.get_global_grad_norm())

    def prefetched(self) -> Iterator[list[torch.Tensor]]:
        """The micro-batches of each remaining step; the next step's are read while this one's are computed."""
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self.read, self.step)
            for step in range(self.step, self.batching.steps):
                batches = ahead.result()
                if step + 1 < self.batching.steps:
                    ahead = reader.submit(self.read, step + 1)
                yield batches

    def read(self, step: int) -> list[torch.Tensor]:
        return [self.objective.batch(numbers) for numbers in self.batching.sequences(step, self.rank)]

    def agreed(self, due: bool) -> tuple[bool, bool]:
        """Whether any rank was told to stop, and whether rank 0 finds a checkpoint due."""
        flags = torch.tensor([self.stop_signal is not None, due and self.rank == 0], dtype=torch.int32)
        if self.world > 1:
            flags = flags.to(self.engine.device)
            dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        stop, due = flags.tolist()
        return bool(stop), bool(due)

    def on_signal(self, number: int, _frame: object) -> None:
        self.stop_signal = number

    def write_metrics(self, ratio: float, validate: bool) -> None:
        steps = self.step - self.logged_step
        dist.all_reduce(self.loss, op=dist.ReduceOp.SUM)
        loss = self.loss.item() / self.world / steps
        if loss != loss:
            raise SeedbedError(
                f"{self.job.name}: the loss is not a number at step {self.step}; try a smaller optimizer.lr"
            )
        valid_loss = self.validation_loss() if validate else None
        if self.rank == 0:
            line = {
                "step": self.step,
                "tokens": self.step * self.job.spec["batch_tokens"],
                "seconds": round(self.seconds, 3),
                "loss": loss,
                "lr": self.job.spec["optimizer"]["lr"] * ratio,
                "grad_norm": self.grad_norm(),
                "tokens_per_second": round(
                    steps * self.job.spec["batch_tokens"] / (self.seconds - self.logged_seconds), 1
                ),
            }
            self.log.write(line | ({} if valid_loss is None else {"valid_loss": valid_loss}))

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Mean loss over the validation windows, shared out among the ranks."""
        self.engine.eval()
        numbers = self.objective.validation()
        mine = numbers[self.rank :: self.world]
        total = torch.zeros(2, dtype=torch.float64, device=self.engine.device)
        for first in range(0, len(mine), self.batching.micro_batch):
            part = mine[first : first + self.batching.micro_batch]
            tokens = self.objective.validation_batch(part).to(self.engine.device)
            loss = float(self.objective.loss(self.engine, tokens))
            total += torch.tensor([loss * len(part), len(part)], dtype=total.dtype, device=total.device)
        dist.all_reduce(total)
        self.engine.train()
        return float(total[0] / total[1])

    # --- saving -------------------------------------------------------------------------------------------------------

    def save(self) -> None:
        facts = {"layout": self.layout(), "precision": self.precision, "seconds": self.seconds}
        facts["interval"] = self.interval()
        checkpoints.save(self.job.store, self.step, self.write_checkpoint, facts, self.rank == 0, dist.barrier)

    def write_checkpoint(self, root: Path, tag: str) -> None:
        self.engine.save_checkpoint(str(root), tag=tag, save_latest=False)

    def finish(self) -> None:
        """Leave the model, the summary and the provenance of the finished run in `store/final`."""
        peaks = [None] * self.world
        dist.all_gather_object(peaks, peak_memory_bytes())
        if self.rank == 0:
            with replacing(self.job.store / "final") as final:
                export(self.engine.module, self.job.tokenizer, final / "model")
                summary = self.summary(peaks)
                write_json(final / "summary.json", summary)
                write_json(final / "run.json", self.provenance())
                (final / "model" / "README.md").write_text(model_card(self.job, summary), encoding="utf-8")
        dist.barrier()

    def summary(self, peaks: list[dict]) -> dict:
        lines = whole_lines(self.job.store / "metrics.jsonl")
        tokens = self.step * self.job.spec["batch_tokens"]
        return {
            "run": self.job.name,
            "identity": self.job.identity,
            "parameters": sum(parameter.numel() for parameter in self.engine.module.parameters()),
            "steps": self.step,
            "tokens": tokens,
            "epochs": self.step * self.batching.per_step / self.objective.epoch_sequences,
            "loss": lines[-1]["loss"],
            "valid_loss": lines[-1]["valid_loss"],
            "seconds": self.seconds,
            "tokens_per_second": tokens / self.seconds,
            "devices": self.world,
            "device_hours": self.seconds * self.world / 3600,
            "peak_memory_bytes": {key: max(peak[key] for peak in peaks) for key in peaks[0]},
        }

    def provenance(self) -> dict:
        return {
            "run": self.job.name,
            "identity": self.job.identity,
            "spec": self.job.spec,
            "precision": self.precision,
            "execution": self.job.execution.__dict__
            | {"micro_batch": self.batching.micro_batch, "accumulation": self.batching.accumulation},
            "inputs": self.job.inputs,
            "git": git_revision(),
            "software": software(),
            "machine": machine(),
        }


def resolved_precision(precision: str) -> str:
    if precision == "auto":
        return "bf16" if bf16_is_fast() else "fp32"
    return precision


def describe(layout: dict) -> str:
    return f"{layout['processes']} processes at ZeRO stage {layout['zero_stage']}"


def model_card(job: Job, summary: dict) -> str:
    """README.md of an exported model: what it is, what it was trained on, how far."""
    config = read_json(job.tokens / "index.json")
    return f"""---
library_name: transformers
pipeline_tag: text-generation
---

# {job.name}

A {job.spec["model"]["family"]} language model of {summary["parameters"]:,} parameters, trained by Seedbed on
{summary["tokens"]:,} tokens ({summary["epochs"]:.2f} epochs, {config["splits"]["train"]["documents"]:,} documents).
Validation loss {summary["valid_loss"]:.4f} nats per token,
{summary["seconds"]:.0f} s on {summary["devices"]} device(s).

Identity `{job.identity}`; configuration:

```json
{json.dumps(job.spec, indent=2, ensure_ascii=False)}
```
"""
