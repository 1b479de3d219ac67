"""What a finished run leaves in its store as `job.final`: a model with its facts, or a trunk for others."""

import json
import shutil
from typing import TYPE_CHECKING

import torch.distributed as dist

from seedbed.files import read_json, replacing, write_json
from seedbed.hardware import git_revision, machine, peak_memory_bytes, software
from seedbed.train import state
from seedbed.train.checkpoints import folder_of
from seedbed.train.launch import linked
from seedbed.train.metrics import whole_lines

if TYPE_CHECKING:
    from seedbed.train.engine import Trainer


def leave_model(trainer: "Trainer") -> None:
    """The model, the summary and the provenance."""
    job, peaks = trainer.job, peaks_of_ranks(trainer)
    weights = state.weights_of(trainer.engine, trainer.stage, trainer.leader)
    if trainer.leader:
        with replacing(job.final) as final:
            trainer.objective.export(final / "model", job.out / "model", job.tokenizer, weights)
            made = summary(trainer, peaks)
            write_json(final / "summary.json", made)
            write_json(final / "run.json", provenance(trainer))
            (final / "model" / "README.md").write_text(model_card(trainer, made), encoding="utf-8")
    dist.barrier()


def leave_trunk(trainer: "Trainer") -> None:
    """The last checkpoint with the metrics so far."""
    job, peaks = trainer.job, peaks_of_ranks(trainer)
    if trainer.leader:
        with replacing(job.final) as final:
            shutil.copytree(folder_of(job.store, trainer.step), final, copy_function=linked)
            shutil.copy2(job.store / "metrics.jsonl", final / "metrics.jsonl")
            write_json(final / "summary.json", costs(trainer, peaks))
            write_json(final / "run.json", provenance(trainer))
    dist.barrier()


def peaks_of_ranks(trainer: "Trainer") -> list[dict]:
    peaks = [None] * trainer.world
    dist.all_gather_object(peaks, peak_memory_bytes())
    return peaks


def costs(trainer: "Trainer", peaks: list[dict]) -> dict:
    """What the training took; `own_tokens` are those that were not read by a trunk before it."""
    batch_tokens, step = trainer.spec["batch_tokens"], trainer.step
    return {
        "run": trainer.job.name,
        "identity": trainer.job.identity,
        "steps": step,
        "tokens": step * batch_tokens,
        "own_tokens": (step - trainer.begun) * batch_tokens,
        "seconds": trainer.seconds,
        "tokens_per_second": step * batch_tokens / trainer.seconds,
        "devices": trainer.world,
        "device_hours": trainer.seconds * trainer.world / 3600,
        "peak_memory_bytes": {key: max(peak[key] for peak in peaks) for key in peaks[0]},
        "spikes": trainer.watch["met"],
    }


def summary(trainer: "Trainer", peaks: list[dict]) -> dict:
    last, weights = whole_lines(trainer.job.store / "metrics.jsonl")[-1], list(trainer.objective.model.parameters())
    epochs = trainer.step * trainer.batching.per_step / trainer.objective.epoch_sequences
    return costs(trainer, peaks) | {
        "parameters": sum(weight.numel() for weight in weights),
        "trained_parameters": sum(weight.numel() for weight in weights if weight.requires_grad),
        "epochs": epochs,
        "loss": last["loss"],
        **{key: value for key, value in last.items() if key.startswith("valid_")},
    }


def provenance(trainer: "Trainer") -> dict:
    batching = trainer.batching
    return {
        "run": trainer.job.name,
        "identity": trainer.job.identity,
        "spec": trainer.spec,
        "precision": trainer.precision,
        "attention": trainer.objective.model.config._attn_implementation,
        "execution": trainer.job.execution.__dict__
        | {"micro_batch": batching.micro_batch, "accumulation": batching.accumulation},
        "inputs": trainer.job.inputs,
        "git": git_revision(),
        "software": software(),
        "machine": machine(),
    }


def model_card(trainer: "Trainer", summary: dict) -> str:
    """README.md of an exported model: what it is, how to load it, what it was trained on, how far."""
    job, card = trainer.job, trainer.objective.card()
    documents = read_json(job.tokens / "index.json")["splits"]["train"]["documents"]
    return f"""---
{card["metadata"]}
---

# {job.name}

{card["what"]} of {summary["parameters"]:,} parameters, trained by Seedbed on
{summary["tokens"]:,} tokens ({summary["epochs"]:.2f} epochs, {documents:,} documents).
Validation loss {summary["valid_loss"]:.4f} nats per token,
{summary["seconds"]:.0f} s on {summary["devices"]} device(s).
{card["how"]}
Identity `{job.identity}`; configuration:

```json
{json.dumps(job.spec, indent=2, ensure_ascii=False)}
```
"""
