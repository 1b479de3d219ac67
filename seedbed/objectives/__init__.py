"""What a run learns: an objective has the model, the batches and the losses, and the engine drives it."""

from importlib import import_module
from pathlib import Path

# By the `objective` of a run, where its class is; torch is slow to load, and a name is enough to find it.
OBJECTIVES = {"lm": ("lm", "LanguageModelling"), "icae": ("icae", "InContextAutoencoding")}


def objective(spec: dict, data: Path, init: Path | None = None):
    """The objective of a run's spec, on a directory of its data, from the model directory `init` if there is one."""
    module, name = OBJECTIVES[spec["objective"]]
    return getattr(import_module(f"seedbed.objectives.{module}"), name)(spec, data, init)
