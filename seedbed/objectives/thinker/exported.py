"""What describes an exported Thinker: the file `config.json` in its directory."""

from typing import Any, Literal

from seedbed.records import Record

CONFIG, WEIGHTS, TASK = "config.json", "model.safetensors", "task.py"


class Exported(Record):
    """The keys of its run (`seedbed.objectives.thinker.config`) that answering depends on."""

    model_type: Literal["thinker"]
    task: dict[str, Any]
    length: int
    curriculum: dict[str, Any]
    model: dict[str, Any]
    n_latent: list[int] | None
    n_step: list[int]
    loss: dict[str, Any]
    batch: int
