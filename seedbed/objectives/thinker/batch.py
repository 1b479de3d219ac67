"""From problems to the tensors that a Thinker reads, feature-first: [positions, batch]."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from seedbed.objectives.thinker.tasks import Problems


@dataclass
class Batch:
    """Symbols [n, B] with their padding `hidden` (None where no row is shorter), and targets [m, B] with theirs."""

    symbols: Tensor
    hidden: Tensor | None
    targets: Tensor
    beyond: Tensor | None

    def __len__(self) -> int:
        return self.symbols.shape[1]

    @classmethod
    def of(cls, problems: Problems) -> "Batch":
        """Cut to the longest input and the longest target."""
        inputs, targets = problems.input_lengths, problems.target_lengths
        return cls(
            columns(problems.inputs[:, : inputs.max()]),
            padding(inputs),
            columns(problems.targets[:, : targets.max()]),
            padding(targets),
        )

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        return self.mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        return self.mapped(torch.Tensor.pin_memory)

    def mapped(self, change) -> "Batch":
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return Batch(**{name: None if tensor is None else change(tensor) for name, tensor in found.items()})

    @property
    def real(self) -> Tensor:
        """Which targets count, [m, B]."""
        return torch.ones_like(self.targets, dtype=torch.bool) if self.beyond is None else ~self.beyond


def columns(rows: np.ndarray) -> Tensor:
    """[B, n] as [n, B]."""
    return torch.from_numpy(np.ascontiguousarray(rows.T, dtype=np.int64))


def padding(lengths: np.ndarray) -> Tensor | None:
    longest = lengths.max()
    return None if lengths.min() == longest else torch.from_numpy(np.arange(longest)[:, None] >= lengths)
