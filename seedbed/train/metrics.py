"""What a run writes while it learns: metrics.jsonl, TensorBoard events beside it, a progress bar."""

import json
from pathlib import Path

from tqdm import tqdm

from seedbed.files import remove, write_text
from seedbed.train.checkpoints import Checkpoint


class MetricsLog:
    """Appends a line per logged step; opened at a checkpoint, it keeps the lines before that step.

    `folder/metrics.jsonl` is the record; `folder/tensorboard` is made again from it, so that every step is shown
    once.
    """

    def __init__(self, folder: Path, name: str, step: int, steps: int, checkpoint: Checkpoint | None) -> None:
        # Heavy to import, and only the rank that writes needs it.
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / "metrics.jsonl"
        before = whole_lines(checkpoint.metrics) if checkpoint else []
        kept = [line for line in before if line["step"] < step]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self.file = self.path.open("a", encoding="utf-8")
        remove(folder / "tensorboard")
        self.events = SummaryWriter(str(folder / "tensorboard"))
        for line in kept:
            self.show(line)
        self.bar = tqdm(total=steps, initial=step, desc=name, unit="step", dynamic_ncols=True, mininterval=1)

    def write(self, line: dict) -> None:
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        self.show(line)
        shown = {"loss": f"{line['loss']:.3f}", "tok/s": f"{line['tokens_per_second']:,.0f}"}
        self.bar.set_postfix(shown, refresh=False)

    def show(self, line: dict) -> None:
        for key, value in line.items():
            if key not in ("step", "seconds"):
                self.events.add_scalar(key, value, line["step"])

    def advance(self) -> None:
        self.bar.update()

    def close(self) -> None:
        self.file.close()
        self.events.close()
        self.bar.close()


def whole_lines(path: Path) -> list[dict]:
    """Lines of a metrics file whose writer may have been killed in the middle of the last one."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
