"""The Thinker: latents, memory and steps on algorithmic tasks."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch is slow to load, and the configuration does without
    from seedbed.objectives.thinker.answerer import Answerer


def load(folder: Path | str) -> "Answerer":
    """Load the Thinker that a run exported to `folder` (`runs/<run>/model`), with `answer`.

    Raises SeedbedError where there is none.
    """
    from seedbed.objectives.thinker.answerer import Answerer

    return Answerer(Path(folder))
