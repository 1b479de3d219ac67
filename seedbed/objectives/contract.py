"""What training asks of an objective: the model, batches by number, losses, what it remembers and what it leaves.

The class lies where the run's config says (`objective_class`), and is made as `Class(spec, inputs)`: the spec of a run,
and the files of its inputs by name. `inputs["init"]`, if it is there, is the directory of a model to start from. All
ranks make the same one from the same seed. Training counts *samples*: every sample has a number in the whole training,
which with the seed decides all that is random about it, so that a run resumes without a state of its data, on any
number of processes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor


class Batch(Protocol):
    """The tensors of some samples; a tensor is one."""

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch": ...

    def pin_memory(self) -> "Batch": ...


@dataclass(frozen=True)
class Sizes:
    """What the memory and the speed of a training depend on."""

    parameters: int
    trained_parameters: int
    layers: int
    width: int  # of the hidden states between layers
    positions: int  # of one sample

    @classmethod
    def of(cls, model: torch.nn.Module, layers: int, width: int, positions: int) -> "Sizes":
        weights = list(model.parameters())
        trained = sum(weight.numel() for weight in weights if weight.requires_grad)
        return cls(sum(weight.numel() for weight in weights), trained, layers, width, positions)


@dataclass(frozen=True)
class Card:
    """What a reader of an exported model has to know besides figures."""

    metadata: str  # YAML of a model card
    what: str  # "A llama language model"
    trained_on: str  # "1,043 documents"
    how: str = ""  # it is loaded, as Markdown
    loss_unit: str = ""  # "nats per token"


class Objective(Protocol):
    """One run's model, data and loss; training drives it."""

    # What is trained: its parameters that require gradients are what checkpoints hold, and `losses` calls it.
    loss_module: torch.nn.Module
    # Samples in one epoch.
    epoch_samples: int
    # Losses that `losses` yields for a micro-batch.
    losses_per_batch: int

    # --- before the first step ----------------------------------------------------------------------------------------

    def sizes(self) -> Sizes:
        """What its memory depends on; asked before the model is moved or split."""

    def prepare(self, precision: str) -> None:
        """Make ready for training in `fp32` or `bf16`, which is autocast over fp32 weights."""

    def compile(self) -> None:
        """Use torch.compile for what is worth it."""

    def checkpoint_activations(self) -> None:
        """Compute activations again in the backward pass."""

    # --- batches ------------------------------------------------------------------------------------------------------

    def batch(self, numbers: range) -> Batch:
        """Those samples of the training. They are read one step ahead, in a thread."""

    def largest_batch(self, size: int) -> Batch:
        """A batch that takes as much memory as any of so many samples."""

    def validation_numbers(self) -> range:
        """Numbers of the samples to validate on."""

    def validation_batch(self, numbers: range) -> Batch:
        """Those samples of the validation."""

    # --- losses -------------------------------------------------------------------------------------------------------

    def losses(self, model: torch.nn.Module, batch: Batch, numbers: range) -> Iterator[Tensor]:
        """`losses_per_batch` mean losses, scalars, of equal shares of a micro-batch; backward follows each.

        `model` is `loss_module` as training wraps it.
        """

    def validate(self, model: torch.nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Means over the samples of a batch, by name; `loss` is among them."""

    def diagnostics(self) -> dict[str, Tensor]:
        """Figures of the last step that metrics tell beside the loss."""

    # --- what it remembers --------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint holds of it besides weights: what this rank has, on the CPU.

        Checkpoints hold the union over ranks; where several ranks have a name, they have the same under it.
        """

    def load_state_dict(self, state: dict[str, Tensor], micro_batches: list[range], device: torch.device) -> None:
        """Take up what it remembered, that of all ranks; `micro_batches` are what this rank trains on next."""

    # --- what a finished run leaves -----------------------------------------------------------------------------------

    def export(self, folder: Path, published: Path, weights: dict[str, Tensor]) -> None:
        """Write the model with these trained weights of `loss_module`; `published` is where the folder will be."""

    def card(self) -> Card:
        """What a reader of the export has to know."""

    def provenance(self) -> dict:
        """What else decided how it was computed, as JSON."""
