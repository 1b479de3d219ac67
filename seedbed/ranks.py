"""Which of the processes of a training this one is."""

import os


def rank() -> int:
    """The number of this process among the ranks that a training was launched as; 0 anywhere else."""
    return int(os.environ["RANK"]) if "TORCHELASTIC_RUN_ID" in os.environ else 0
