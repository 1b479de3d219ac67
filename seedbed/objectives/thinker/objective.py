"""Thinking: answer problems that are generated in the batch, with latents and steps drawn for each batch."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from seedbed.files import read_tensors
from seedbed.objectives.contract import Card, Sizes
from seedbed.objectives.thinker.batch import Batch
from seedbed.objectives.thinker.compute import Compute, drawn, measured
from seedbed.objectives.thinker.curriculum import Curriculum
from seedbed.objectives.thinker.exported import CONFIG, TASK, WEIGHTS, Exported
from seedbed.objectives.thinker.flow import Row
from seedbed.objectives.thinker.geometry import Geometry
from seedbed.objectives.thinker.model import Question, Thinker, Thought
from seedbed.objectives.thinker.tasks import generate, name_of, task_of
from seedbed.records import write_record

HOW = """
```python
from seedbed.objectives.thinker import load

thinker = load("<this directory>")
print(thinker.answer({task!r}, {example}, n_step={n_step}))
```
"""


class Answering(torch.nn.Module):
    """Mean loss of the samples of a batch, in nats per symbol; all samples weigh the same."""

    def __init__(self, model: Thinker, loss: dict) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Batch, compute: Compute) -> tuple[Tensor, Tensor]:
        """The loss, and which symbols [m, B] the last answer has right; a measurement has no progressive part."""
        question = question_of(self.model, batch, compute.places)
        thought = Thought(self.model, question, compute.n_latent)
        if self.loss["kind"] != "progressive" or not compute.until:
            answers = thought.run(compute.rows)
            return self.total(answers, batch), right(answers[-1], batch)
        answer = thought.run(compute.rows)[-1]
        progress = Thought(self.model, question, compute.n_latent)
        part = mean_loss(progress.after(compute.before, answering_at(compute.rows, compute.until)), batch)
        alpha = self.loss["alpha"]
        return (1 - alpha) * mean_loss(answer, batch) + alpha * part, right(answer, batch)

    def total(self, answers: list[Tensor], batch: Batch) -> Tensor:
        """The loss of the answers that count: the last one, or all, equally or in proportion to their number."""
        if self.loss["kind"] == "last":
            return mean_loss(answers[-1], batch)
        weights = [number if self.loss["kind"] == "scaled" else 1 for number in range(1, len(answers) + 1)]
        losses = [weight * mean_loss(answer, batch) for weight, answer in zip(weights, answers, strict=True)]
        return sum(losses) / sum(weights)


def answering_at(rows: list[Row], until: int) -> list[Row]:
    """The first rows of a plain loop, of which the last one answers."""
    return [*rows[: until - 1], replace(rows[until - 1], output=True)]


def question_of(model: Thinker, batch: Batch, places: Tensor) -> Question:
    """The question of a batch, with the right answers before each where the model sees them."""
    previous = None
    if model.answers is not None:
        start = torch.full_like(batch.targets[:1], model.start)
        previous = torch.cat([start, batch.targets[:-1]])
    places = places.to(batch.symbols.device)
    return Question(batch.symbols, batch.hidden, len(batch.targets), previous, places)


def mean_loss(scores: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of scores [symbols, m, B], averaged over the symbols of a sample and then over samples."""
    if batch.beyond is None:
        return F.cross_entropy(scores[None], batch.targets[None])
    losses = F.cross_entropy(scores[None], batch.targets[None], reduction="none")[0]
    return ((losses * batch.real).sum(0) / batch.real.sum(0)).mean()


def right(scores: Tensor, batch: Batch) -> Tensor:
    """Which symbols [m, B] are right; padding is not."""
    scores = scores.detach()  # no argmax: over the first dimension that takes as long as a step's softmax
    return (scores.gather(0, batch.targets[None])[0] >= scores.amax(0)) & batch.real


class Thinking:
    """The model, the batches and the loss of one run (`seedbed.objectives.contract.Objective`).

    `inputs` may have `init`, the directory of a Thinker to start from, and `task`, the file of a task of the user's.
    """

    losses_per_batch = 1
    epoch_samples = None

    def __init__(self, spec: dict, inputs: dict[str, Path]) -> None:
        self.spec, self.inputs = spec, inputs
        self.task = task_of(spec["task"], inputs["task"] if "python" in spec["task"] else None)
        # What is trained on, whatever the file becomes in the meantime.
        self.code = inputs["task"].read_bytes() if "task" in inputs else None
        self.geometry = Geometry.of(spec)
        model = Thinker(self.geometry, spec["model"])
        if "init" in inputs:
            model.load_weights(read_tensors(inputs["init"] / WEIGHTS))
        self.loss_module = Answering(model, spec["loss"])
        self.load_state_dict({}, [], torch.device("cpu"))

    @property
    def model(self) -> Thinker:
        """The model that is trained."""
        return self.loss_module.model

    @property
    def positions(self) -> int:
        """Positions of the longest input or output."""
        return max(self.task.sizes(self.spec["length"]))

    def sizes(self) -> Sizes:
        geometry = self.geometry
        return Sizes.of(
            self.model,
            geometry.layers + geometry.output_layers,
            geometry.width,
            sum(self.task.sizes(self.spec["length"])),
        )

    def prepare(self, precision: str) -> None: ...

    def compile(self) -> None:
        self.loss_module.compile()

    def checkpoint_activations(self) -> None:
        for layer in (*self.model.layers, *self.model.output_layers):
            layer.checkpointed = True

    # --- batches ------------------------------------------------------------------------------------------------------

    @property
    def reads_ahead(self) -> bool:
        """A curriculum that grows draws from what the step before has shown."""
        return not self.curriculum.grows

    def batch(self, numbers: range) -> Batch:
        """The training samples with these numbers."""
        lengths = self.curriculum.shortest, self.curriculum.longest
        return Batch.of(generate(self.task, "train", self.spec["seed"], numbers, *lengths))

    def largest_batch(self, size: int) -> Batch:
        """A batch of `size` samples that takes as much memory as any other."""
        return self.validation_batch(range(size))

    def validation_numbers(self) -> range:
        return range(self.spec["validation"]["samples"])

    def validation_batch(self, numbers: range) -> Batch:
        """Held-out samples of the length of the run, the same for every seed."""
        return Batch.of(generate(self.task, "valid", 0, numbers, self.spec["length"], self.spec["length"]))

    # --- losses -------------------------------------------------------------------------------------------------------

    def losses(self, model: torch.nn.Module, batch: Batch, numbers: range) -> Iterator[Tensor]:
        """The mean loss of a micro-batch."""
        compute = drawn(self.spec, numbers[0] // self.spec["batch"], self.positions)
        loss, hits = model(batch, compute)
        self.hits += torch.stack([hits.sum(), batch.real.sum()]).to(self.hits)
        yield loss

    def step_done(self) -> None:
        """Count how much of the step was right, over all processes, towards the curriculum; collective."""
        if dist.get_world_size() > 1:
            dist.all_reduce(self.hits)
        if self.curriculum.grows:
            self.curriculum.learn(self.accuracy)
        self.last, self.hits = self.hits, torch.zeros_like(self.hits)

    @property
    def accuracy(self) -> float:
        return float(self.hits[0] / self.hits[1])

    @torch.no_grad()
    def validate(self, model: torch.nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Means over samples: loss, share of symbols that are right, share of answers that are right altogether."""
        most = self.spec["n_latent"] and self.spec["n_latent"][-1]
        loss, hits = model(batch, measured(self.spec, most, self.spec["n_step"][-1], self.positions))
        counts = batch.real.sum(0)
        return {
            "loss": loss,
            "accuracy": (hits.sum(0) / counts).mean(),
            "exact": (hits.sum(0) == counts).float().mean(),
        }

    def diagnostics(self) -> dict[str, Tensor]:
        """Share of right symbols in the last step, and the target of a growing curriculum."""
        found = {"accuracy": self.last[0] / self.last[1].clamp(min=1)}
        return found | ({"target_length": torch.tensor(self.curriculum.target)} if self.curriculum.grows else {})

    # --- state --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """What the curriculum has learned, the same on every process, and how much of the last step was right."""
        return self.curriculum.state_dict() | {"last": self.last.cpu()}

    def load_state_dict(self, state: dict[str, Tensor], micro_batches: list[range], device: torch.device) -> None:
        self.curriculum = Curriculum(self.spec["curriculum"], self.spec["length"])
        self.hits = self.last = torch.zeros(2, dtype=torch.float64, device=device)
        if state:
            self.curriculum.load_state_dict(state)
            self.last = state["last"].to(device)

    # --- what a finished run leaves -----------------------------------------------------------------------------------

    def export(self, folder: Path, published: Path, weights: dict[str, Tensor]) -> None:
        """Write `model.safetensors` with `config.json`, and the file of a task of the user's."""
        folder.mkdir(parents=True)
        save_file({name.removeprefix("model."): weight for name, weight in weights.items()}, folder / WEIGHTS)
        kept = ("task", "length", "curriculum", "model", "n_latent", "n_step", "loss", "batch")
        write_record(folder / CONFIG, Exported, {"model_type": "thinker"} | {key: self.spec[key] for key in kept})
        if self.code is not None:
            (folder / TASK).write_bytes(self.code)

    def card(self) -> Card:
        task = self.spec["task"]
        name = name_of(task)
        example = [1, 1] if name == "addition" else [number % task["symbols"] for number in (3, 1, 2)]
        return Card(
            metadata="library_name: safetensors",
            what=f"A Thinker for the task {name}",
            trained_on="generated as needed",
            how=HOW.format(task=name, example=example, n_step=self.spec["n_step"][-1]),
            loss_unit="nats per symbol",
        )

    def provenance(self) -> dict:
        return {}
