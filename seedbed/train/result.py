"""What a finished run writes to `job.final`: a model with its summary, or a trunk for other runs."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch.distributed as dist

from seedbed.checksums import described_files
from seedbed.files import linked, replacing
from seedbed.hardware import git_revision, machine, peak_memory_bytes, software
from seedbed.objectives.contract import Card, Objective, Sizes
from seedbed.records import write_record
from seedbed.runs import COSTS, METRICS, MODEL, RUN, SUMMARIES, SUMMARY, Costs, Provenance, Summary, lines
from seedbed.train.checkpoints import folder_of
from seedbed.train.engine import Engine
from seedbed.train.execution import Batching
from seedbed.train.job import Job


@dataclass(frozen=True)
class Result:
    """The outcome of training: its steps, of which `begun` were made for another run, their time, the loss spikes."""

    step: int
    begun: int
    seconds: float
    spikes: list[dict]
    epochs: float | None
    precision: str
    batching: Batching
    sizes: Sizes


def save_model(job: Job, result: Result, objective: Objective, engine: Engine) -> None:
    """Write the model, the summary and the provenance; collective."""
    main_process, peaks = dist.get_rank() == 0, peaks_of_ranks()
    weights = engine.weights(main_process)
    if main_process:
        with replacing(job.final) as final:
            objective.export(final / MODEL, job.out / MODEL, weights)
            totals = summary(job, result, peaks)
            card = model_card(job, totals, objective.card())
            (final / MODEL / "README.md").write_text(card, encoding="utf-8")
            shutil.copyfile(job.store / METRICS, final / METRICS)
            write_record(final / SUMMARY, SUMMARIES, totals)
            write_record(final / RUN, Provenance, provenance(job, result, objective, final))
    dist.barrier()


def save_trunk(job: Job, result: Result, objective: Objective, _engine: Engine) -> None:
    """Write the last checkpoint; collective."""
    peaks = peaks_of_ranks()
    if dist.get_rank() == 0:
        with replacing(job.final) as final:
            shutil.copytree(folder_of(job.store, result.step), final, copy_function=linked)
            write_record(final / SUMMARY, COSTS, costs(job, result, peaks))
            write_record(final / RUN, Provenance, provenance(job, result, objective, final))
    dist.barrier()


def peaks_of_ranks() -> list[dict]:
    peaks = [None] * dist.get_world_size()
    dist.all_gather_object(peaks, peak_memory_bytes())
    return peaks


def costs(job: Job, result: Result, peaks: list[dict]) -> Costs:
    """What training took, counted in the run's unit; `own_<unit>` leaves out what its trunk was trained on."""
    unit, processes = job.unit, result.batching.processes
    amount = result.step * unit.per_step
    return {
        "run": job.name,
        "identity": job.identity,
        "unit": unit.name,
        "steps": result.step,
        unit.name: amount,
        unit.own: amount - result.begun * unit.per_step,
        "seconds": result.seconds,
        unit.speed: amount / result.seconds,
        "devices": processes,
        "device_hours": result.seconds * processes / 3600,
        "peak_memory_bytes": {key: max(peak[key] for peak in peaks) for key in peaks[0]},
        "spikes": result.spikes,
    }


def summary(job: Job, result: Result, peaks: list[dict]) -> Summary:
    last = lines(job.store / METRICS)[-1]
    return costs(job, result, peaks) | {
        "parameters": result.sizes.parameters,
        "trained_parameters": result.sizes.trained_parameters,
        "epochs": result.epochs,
        "loss": last["loss"],
        **{key: value for key, value in last.items() if key.startswith("valid_")},
    }


def provenance(job: Job, result: Result, objective: Objective, folder: Path) -> Provenance:
    """How a run came about, and the files in the folder that it leaves."""
    batching = result.batching
    return {
        "run": job.name,
        "identity": job.identity,
        "spec": job.spec,
        "precision": result.precision,
        **objective.provenance(),
        "execution": asdict(job.execution)
        | {"micro_batch": batching.micro_batch, "accumulation": batching.accumulation},
        "inputs": job.checksums,
        "git": git_revision(),
        "software": software(),
        "machine": machine(),
        "files": described_files(folder),
    }


def model_card(job: Job, summary: dict, card: Card) -> str:
    """README.md of an exported model: what it is, how to load it, what it was trained on and for how long."""
    unit, passes = job.unit.name, summary["epochs"]
    epochs = "" if passes is None else f"{passes:.2f} epochs, "
    return f"""---
{card.metadata}
---

# {job.name}

{card.what} of {summary["parameters"]:,} parameters, trained by Seedbed on
{summary[unit]:,} {unit} ({epochs}{card.trained_on}).
Validation loss {summary["valid_loss"]:.4f} {card.loss_unit},
{summary["seconds"]:.0f} s on {summary["devices"]} device(s).
{card.how}
Identity `{job.identity}`; configuration:

```json
{json.dumps(job.spec, indent=2, ensure_ascii=False)}
```
"""
