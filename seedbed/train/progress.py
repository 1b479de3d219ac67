"""The training state besides weights and optimizer, as a checkpoint's manifest holds it."""

import time
from dataclasses import dataclass, field

import torch
import torch.distributed as dist

from seedbed.train import schedules, spikes


def clock() -> float:
    """Seconds, read once the device has finished its queued work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@dataclass
class Progress:
    """How far training is: the step, the time it took, and the state of the schedule and of spike detection.

    `begun` is how many of the updates were made for another run; `watch` is a state of `seedbed.train.spikes`,
    `plateau` one of `seedbed.train.schedules`. An interval is the steps since the last line of metrics: the step and
    time at which it began, and the loss of each of its steps on this rank.
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
    def at(cls, manifest: dict, own: bool, watch: dict | None) -> "Progress":
        """The progress that a checkpoint's manifest holds (empty: none yet); `own` says whether this run saved it.

        After a spike, `watch` replaces that of the manifest.
        """
        progress = cls(manifest.get("step", 0), seconds=manifest.get("seconds", 0.0))
        progress.begun = manifest.get("begun", 0) if own else progress.step
        progress.watch = watch or manifest.get("watch") or progress.watch
        progress.plateau = manifest.get("plateau") or progress.plateau
        return progress

    def count_from_now(self) -> None:
        """Leave out the time since the last count."""
        self.started = clock()

    def count_seconds(self) -> None:
        now = clock()
        self.seconds += now - self.started
        self.started = now

    # --- the interval between two lines of metrics --------------------------------------------------------------------

    def open_interval(self, most: int, device: torch.device, kept: dict | None = None) -> None:
        """Start collecting the losses of up to `most` steps, or continue the interval that a checkpoint `kept`."""
        kept = kept or {"step": self.step, "seconds": self.seconds, "losses": [[]]}
        self.interval_step, self.interval_seconds = kept["step"], kept["seconds"]
        losses, world = kept["losses"], dist.get_world_size()
        own = losses[dist.get_rank()] if len(losses) == world else means(losses)
        self.losses = torch.zeros(most, device=device)
        self.losses[: len(own)] = torch.tensor(own, device=device)

    @property
    def interval_steps(self) -> int:
        return self.step - self.interval_step

    @property
    def loss(self) -> torch.Tensor:
        """The entry to add the loss of the current step to."""
        return self.losses[self.interval_steps]

    def interval_losses(self) -> list[float]:
        """The losses of the interval's steps, averaged over ranks; collective."""
        losses = self.losses[: self.interval_steps] / dist.get_world_size()
        dist.all_reduce(losses, op=dist.ReduceOp.SUM)
        return losses.tolist()

    def facts(self, gradient_norm: float) -> dict:
        """What a manifest holds for `at` and `open_interval`; collective."""
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
    """Element-wise means over ranks, where their number has changed since."""
    return [sum(values) / len(values) for values in zip(*lists, strict=True)]
