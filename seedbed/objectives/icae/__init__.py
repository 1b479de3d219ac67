"""In-context autoencoders (ICAE, arXiv 2307.06945): a context compressed into memory vectors, and decoded again."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch is slow to load, and the configuration does without
    from seedbed.objectives.icae.compressor import Compressor


def load(folder: Path | str, base: Path | str | None = None) -> "Compressor":
    """Load the ICAE that a run exported to `folder` (`runs/<run>/model`), with `compress` and `reconstruct`.

    `base` is the directory of its base model, if that has moved since training. Raises SeedbedError when the base is
    missing, or another one.
    """
    from seedbed.objectives.icae.compressor import Compressor

    return Compressor(Path(folder), base and Path(base))
