"""In-context autoencoders (ICAE, arXiv 2307.06945): a context compressed into memory vectors, and read back."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # its torch is slow to load, and the configuration does without
    from seedbed.objectives.icae.compressor import Compressor


def load(folder: Path | str, base: Path | str | None = None) -> "Compressor":
    """The ICAE that a run left in `folder` (`runs/<run>/model`), with `compress` and `reconstruct`.

    `base` is the directory of its base model, where that lies elsewhere than when it was trained. Raises SeedbedError
    when it is not there, or is another.
    """
    from seedbed.objectives.icae.compressor import Compressor

    return Compressor(Path(folder), base and Path(base))
