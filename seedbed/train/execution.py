"""How a run is computed: processes, threads, micro-batches. None of it changes what the run is."""

from dataclasses import dataclass

from seedbed.config import Budget
from seedbed.errors import SeedbedError

# Tokens of a micro-batch that nobody chose: enough to keep the device busy, little enough to fit.
AUTOMATIC_TOKENS = 4096


@dataclass(frozen=True)
class Execution:
    """How a run is computed; never changes what it is."""

    processes: int = 1  # 0 chooses: the GPUs that are visible, else up to two on the CPU
    threads: int = 1
    micro_batch: int = 0  # sequences per process at a time; 0 chooses
    zero_stage: int = 0
    checkpoint_seconds: float = 300

    def __post_init__(self) -> None:
        if self.zero_stage not in (0, 1, 2):
            raise SeedbedError(f"zero_stage: found {self.zero_stage}, expected 0, 1 or 2")
        if self.processes < 0 or self.micro_batch < 0:
            raise SeedbedError(f"processes {self.processes} and micro_batch {self.micro_batch}: expected at least 0")


@dataclass(frozen=True)
class Batching:
    """`steps` steps of `per_step` sequences: `accumulation` micro-batches of `micro_batch` on each of `processes`."""

    steps: int
    per_step: int
    micro_batch: int
    processes: int

    @property
    def accumulation(self) -> int:
        return self.per_step // (self.micro_batch * self.processes)

    def sequences(self, step: int, rank: int) -> list[range]:
        """Numbers of the sequences that `rank` computes in a step, a range for each micro-batch."""
        stride = self.micro_batch * self.processes
        first = step * self.per_step + rank * self.micro_batch
        return [
            range(first + part * stride, first + part * stride + self.micro_batch) for part in range(self.accumulation)
        ]

    @staticmethod
    def of(spec: dict, execution: Execution, epoch_sequences: int) -> "Batching":
        """From a run's spec and how it is executed; micro_batch 0 picks the largest that divides.

        Raises SeedbedError, with the nearest numbers that fit, when the batch does not divide.
        """
        per_step, processes, micro_batch = (
            spec["batch_tokens"] // spec["seq_len"],
            execution.processes,
            execution.micro_batch,
        )
        share = divided(
            per_step,
            processes,
            f"batch_tokens {spec['batch_tokens']} is {per_step} sequences of {spec['seq_len']}, "
            f"which {processes} processes",
            "processes",
        )
        if not micro_batch:
            fitting = max(1, AUTOMATIC_TOKENS // spec["seq_len"])
            micro_batch = max(size for size in range(1, min(share, fitting) + 1) if share % size == 0)
        divided(
            share,
            micro_batch,
            f"each process has {share} sequences of a batch, which micro_batch {micro_batch}",
            "micro_batch",
        )
        steps = Budget(**spec["budget"]).step_count(spec["batch_tokens"], epoch_sequences * spec["seq_len"])
        return Batching(steps, per_step, micro_batch, processes)


def divided(whole: int, parts: int, what: str, name: str) -> int:
    if whole % parts:
        near = sorted((n for n in range(1, whole + 1) if whole % n == 0), key=lambda n: abs(n - parts))[:2]
        raise SeedbedError(f"{what} do not divide; nearest {name} that do: {' or '.join(map(str, sorted(near)))}")
    return whole // parts
