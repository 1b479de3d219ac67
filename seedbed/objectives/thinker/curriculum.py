"""Which lengths a training draws, and how they grow."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Curriculum:
    """Lengths from `shortest` to `longest`; the target of a progressive one grows by what the batches at it show.

    `spec` is the dump of a class of `seedbed.objectives.thinker.config`, `length` that of the run. State: the target,
    and the accuracies of the latest batches at this target.
    """

    spec: dict
    length: int
    target: int = 0
    recent: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.target = self.target or (self.spec["first"] if self.grows else self.length)

    @property
    def grows(self) -> bool:
        return self.spec["kind"] == "progressive"

    @property
    def shortest(self) -> int:
        """A progressive curriculum goes on with the lengths that it has learned."""
        return {"fixed": self.length, "uniform": self.spec.get("first", 1), "progressive": 1}[self.spec["kind"]]

    @property
    def longest(self) -> int:
        return self.target

    def learn(self, accuracy: float) -> None:
        """Count a batch with this share of right symbols."""
        if not self.grows or self.target == self.length:
            return
        self.recent = [*self.recent, accuracy][-self.spec["window"] :]
        if len(self.recent) == self.spec["window"] and sum(self.recent) / len(self.recent) >= self.spec["threshold"]:
            self.target, self.recent = min(self.target + self.spec["delta"], self.length), []

    def state_dict(self) -> dict[str, Tensor]:
        if not self.grows:
            return {}
        return {
            "curriculum.target": torch.tensor(self.target),
            "curriculum.recent": torch.tensor(self.recent, dtype=torch.float64),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        if self.grows:
            self.target = int(state["curriculum.target"])
            self.recent = state["curriculum.recent"].tolist()
