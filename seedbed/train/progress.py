"""What changes while a run is trained besides weights and the optimizer's state: a checkpoint's manifest holds it."""

import time
from dataclasses import dataclass, field

import torch
import torch.distributed as dist

from seedbed.train import schedules, spikes


def clock() -> float:
    """Seconds, read once the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@dataclass
class Progress:
    """Where a training is: the step, the time it took, and what its schedule and its watch for spikes remember.

    `begun` is how many of the updates were made for another run; `watch` is a state of `seedbed.train.spikes`,
    `plateau` one of `seedbed.train.schedules`. An interval is the steps since the last line of metrics: where it began,
    and the loss of each of its steps on this rank.
    """

    step: int = 0
    begun: int = 0
    seconds: float = 0.0
    watch: dict = field(default_factory=spikes.watch_start)
    plateau: dict = field(default_factory=schedules.plateau_start)
    interval_step: int = 0
    interval_seconds: float = 0.0
    losses: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    started: float = field(default_factory=clock)

    @classmethod
    def at(cls, manifest: dict, mine: bool, watch: dict | None) -> "Progress":
        """What a checkpoint's manifest has of it, an empty one of none; `mine` says whether this run left it.

        `watch` is in place of the manifest's, after a spike.
        """
        made = cls(manifest.get("step", 0), seconds=manifest.get("seconds", 0.0))
        made.begun = manifest.get("begun", 0) if mine else made.step
        made.watch = watch or manifest.get("watch") or made.watch
        made.plateau = manifest.get("plateau") or made.plateau
        return made

    def count_from_now(self) -> None:
        """Leave out the time since it was last counted."""
        self.started = clock()

    def count_seconds(self) -> None:
        now = clock()
        self.seconds += now - self.started
        self.started = now

    # --- the interval between two lines of metrics --------------------------------------------------------------------

    def open_interval(self, most: int, device: torch.device, kept: dict | None = None) -> None:
        """Begin to collect the losses of up to `most` steps, or continue what a checkpoint had `kept` of them."""
        kept = kept or {"step": self.step, "seconds": self.seconds, "losses": [[]]}
        self.interval_step, self.interval_seconds = kept["step"], kept["seconds"]
        losses, world = kept["losses"], dist.get_world_size()
        mine = losses[dist.get_rank()] if len(losses) == world else means(losses)
        self.losses = torch.zeros(most, device=device)
        self.losses[: len(mine)] = torch.tensor(mine, device=device)

    @property
    def interval_steps(self) -> int:
        return self.step - self.interval_step

    @property
    def loss(self) -> torch.Tensor:
        """Where the loss of the step that is being made is summed up."""
        return self.losses[self.interval_steps]

    def interval_losses(self) -> list[float]:
        """The losses of the interval's steps, means over ranks."""
        losses = self.losses[: self.interval_steps] / dist.get_world_size()
        dist.all_reduce(losses, op=dist.ReduceOp.SUM)
        return losses.tolist()

    def facts(self, gradient_norm: float) -> dict:
        """What a manifest says, and `at` and `open_interval` read; collective."""
        losses = [None] * dist.get_world_size()
        dist.all_gather_object(losses, self.losses[: self.interval_steps].tolist())
        interval = {"step": self.interval_step, "seconds": self.interval_seconds, "losses": losses}
        return {
            "begun": self.begun,
            "seconds": self.seconds,
            "watch": self.watch,
            "plateau": self.plateau,
            "interval": interval | {"grad_norm": gradient_norm},
        }


def means(lists: list[list[float]]) -> list[float]:
    """Element by element over ranks of another layout."""
    return [sum(values) / len(values) for values in zip(*lists, strict=True)]
