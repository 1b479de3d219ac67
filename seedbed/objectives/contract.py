"""What training requires of an objective: the model, batches by number, losses, its state and its export.

The run's config class names the objective (`objective_class`). It is built as `Class(spec, inputs)`: the spec of a run,
and the files of its inputs by name. `inputs["init"]`, if present, is the directory of a model to start from. All ranks
build the same objective from the same seed. Training counts *samples*: every sample has a number in the whole training,
which together with the seed determines everything random about it. So a run resumes without data-loader state, on any
number of processes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor


class Batch(Protocol):
    """The tensors of some samples; a single tensor is a batch, too."""

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch": ...

    def pin_memory(self) -> "Batch": ...


@dataclass(frozen=True)
class Sizes:
    """What memory and speed of training depend on."""

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
    """The text of an export's model card, besides numbers."""

    metadata: str  # YAML of a model card
    what: str  # "A llama language model"
    trained_on: str  # "1,043 documents"
    how: str = ""  # how to load it, as Markdown
    loss_unit: str = ""  # "nats per token"


class Objective(Protocol):
    """One run's model, data and loss; training drives it."""

    # The module to train: checkpoints hold its parameters that require gradients, and `losses` calls it.
    loss_module: torch.nn.Module
    # Samples in one epoch; None where samples never repeat.
    epoch_samples: int | None
    # How many losses `losses` yields for a micro-batch.
    losses_per_batch: int
    # Whether a step's batches can be read while the step before is computed; else they are read after its `step_done`.
    reads_ahead: bool

    # --- before the first step ----------------------------------------------------------------------------------------

    def sizes(self) -> Sizes:
        """What memory depends on; called before the model is moved or sharded."""

    def prepare(self, precision: str) -> None:
        """Prepare for training in `fp32` or `bf16`, which is autocast over fp32 weights."""

    def compile(self) -> None:
        """Apply torch.compile where it pays off."""

    def checkpoint_activations(self) -> None:
        """Recompute activations in the backward pass."""

    # --- batches ------------------------------------------------------------------------------------------------------

    def batch(self, numbers: range) -> Batch:
        """The training samples with these numbers; with `reads_ahead` called one step ahead, in a background thread."""

    def largest_batch(self, size: int) -> Batch:
        """A batch of `size` samples that takes as much memory as any other."""

    def validation_numbers(self) -> range:
        """Numbers of the samples to validate on."""

    def validation_batch(self, numbers: range) -> Batch:
        """The validation samples with these numbers."""

    # --- losses -------------------------------------------------------------------------------------------------------

    def losses(self, model: torch.nn.Module, batch: Batch, numbers: range) -> Iterator[Tensor]:
        """`losses_per_batch` scalars, the mean losses of equal shares of a micro-batch; backward follows each.

        `model` is `loss_module` as training wraps it.
        """

    def step_done(self) -> None:
        """Called on every process after each update, before a checkpoint is taken; may be collective."""

    def validate(self, model: torch.nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Means over the samples of a batch, by name; `loss` is among them."""

    def diagnostics(self) -> dict[str, Tensor]:
        """Values of the last step to log beside the loss, by name."""

    # --- state --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """This rank's part of the state besides weights, on the CPU.

        Checkpoints hold the union over ranks; a name that several ranks use has to mean the same tensor.
        """

    def load_state_dict(self, state: dict[str, Tensor], micro_batches: list[range], device: torch.device) -> None:
        """Restore the state from that of all ranks; `micro_batches` are what this rank trains on next."""

    # --- what a finished run leaves -----------------------------------------------------------------------------------

    def export(self, folder: Path, published: Path, weights: dict[str, Tensor]) -> None:
        """Write the model with these trained weights of `loss_module`; `published` is where the folder will end up."""

    def card(self) -> Card:
        """The text of the export's model card."""

    def provenance(self) -> dict:
        """What else affects the computation, as JSON."""
