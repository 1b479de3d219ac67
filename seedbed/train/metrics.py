"""What a run reports while training: metrics.jsonl, TensorBoard events beside it, a progress bar."""

import json

from seedbed.files import remove, write_text
from seedbed.progress import progress
from seedbed.runs import METRICS, Line, lines
from seedbed.train.checkpoints import Checkpoint
from seedbed.train.job import Job


class MetricsLog:
    """Appends a line per logged step; a resumed run keeps the lines before the checkpoint's step.

    `metrics.jsonl` in the run's store is the record; `tensorboard` is rewritten from it, so that every step appears
    once.
    """

    def __init__(self, job: Job, step: int, steps: int, checkpoint: Checkpoint | None) -> None:
        # Heavy to import, and only the rank that writes needs it.
        from torch.utils.tensorboard import SummaryWriter

        self.path, self.unit = job.store / METRICS, job.unit
        before = lines(checkpoint.metrics) if checkpoint else []
        kept = [line for line in before if line["step"] < step]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self.file = self.path.open("a", encoding="utf-8")
        remove(job.store / "tensorboard")
        self.events = SummaryWriter(str(job.store / "tensorboard"))
        for line in kept:
            self.show(line)
        self.bar = progress(what=job.name, unit="steps", total=steps, initial=step)

    def write(self, line: Line) -> None:
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        self.show(line)
        shown = f"loss {line['loss']:.3f}, {line[self.unit.speed]:,.0f} {self.unit.name}/s"
        self.bar.set_postfix_str(shown, refresh=False)

    def show(self, line: Line) -> None:
        for key, value in line.items():
            if key not in ("step", "seconds"):
                self.events.add_scalar(key, value, line["step"])

    def advance(self) -> None:
        """Count one more step on the bar."""
        self.bar.update()

    def close(self) -> None:
        self.file.close()
        self.events.close()
        self.bar.close()
