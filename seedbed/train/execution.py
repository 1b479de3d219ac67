"""How a run is computed: processes, threads, micro-batches. None of it is part of the run's identity."""

from dataclasses import dataclass

from seedbed.config.run import Unit
from seedbed.errors import SeedbedError, choices
from seedbed.iterate import divisors

# Positions x width of a micro-batch on a CPU: a layer's activations then stay close to the caches; a larger one is
# hardly faster and takes more memory (benchmarks/pretrain.py).
CPU_ACTIVATIONS = 2**18


@dataclass(frozen=True)
class Execution:
    """How a run is computed; not part of its identity."""

    processes: int = 1  # 0: as many visible GPUs as divide the batch, else one with all threads
    threads: int = 1
    micro_batch: int = 0  # samples per process at a time; 0: chosen automatically
    zero_stage: int = 0
    offload: str = "none"  # where ZeRO keeps the optimizer: none or cpu
    gradient_checkpointing: bool = False
    compile: bool = False
    checkpoint_seconds: float = 300
    checkpoint_steps: int = 0  # 0: by time only
    checkpoint_keep: int = 2

    def __post_init__(self) -> None:
        if self.zero_stage not in (0, 1, 2, 3):
            raise SeedbedError(f"zero_stage: found {self.zero_stage}, expected 0, 1, 2 or 3")
        if self.offload not in ("none", "cpu"):
            raise SeedbedError(f"offload: found {self.offload!r}{choices(self.offload, ['none', 'cpu'])}")
        if self.offload == "cpu" and not self.zero_stage:
            raise SeedbedError("offload cpu needs ZeRO: found zero_stage 0, expected 1, 2 or 3")
        for name, least in (("processes", 0), ("micro_batch", 0), ("checkpoint_steps", 0), ("checkpoint_keep", 1)):
            if getattr(self, name) < least:
                raise SeedbedError(f"{name}: found {getattr(self, name)}, expected at least {least}")


@dataclass(frozen=True)
class Batching:
    """`steps` steps of `per_step` samples: `accumulation` micro-batches of `micro_batch` on each of `processes`."""

    steps: int
    per_step: int
    micro_batch: int
    processes: int

    @property
    def accumulation(self) -> int:
        return self.per_step // (self.micro_batch * self.processes)

    def samples(self, step: int, rank: int) -> list[range]:
        """Numbers of the samples that `rank` computes in a step, a range for each micro-batch."""
        stride = self.micro_batch * self.processes
        first = step * self.per_step + rank * self.micro_batch
        return [
            range(first + part * stride, first + part * stride + self.micro_batch) for part in range(self.accumulation)
        ]

    @staticmethod
    def of(unit: Unit, execution: Execution, steps: int, micro_batch: int) -> "Batching":
        """Batching of a run with this unit and execution; `micro_batch` is used where the execution has none.

        Raises SeedbedError, with the nearest divisors, when the batch cannot be split evenly.
        """
        size = execution.micro_batch or micro_batch
        share = share_of_process(unit, execution)
        divided(share, size, f"each process has {share} samples of a batch, which micro_batch {size}", "micro_batch")
        return Batching(steps, unit.samples, size, execution.processes)


def share_of_process(unit: Unit, execution: Execution) -> int:
    """Samples of a batch that each process computes."""
    batch = f"a batch is {unit.samples} samples"
    batch += f" ({unit.per_step} {unit.name})" if unit.per_sample > 1 else ""
    return divided(unit.samples, execution.processes, f"{batch}, which {execution.processes} processes", "processes")


def possible_micro_batches(unit: Unit, execution: Execution) -> list[int]:
    """Micro-batches that divide the share of a process, the largest first."""
    return sorted(divisors(share_of_process(unit, execution)), reverse=True)


def cpu_micro_batch(unit: Unit, execution: Execution, positions: int, width: int) -> int:
    """The micro-batch that suits a CPU, for samples of `positions` positions in a model of that width."""
    sizes = possible_micro_batches(unit, execution)
    return next((size for size in sizes if size * positions * width <= CPU_ACTIVATIONS), 1)


def divided(whole: int, parts: int, what: str, name: str) -> int:
    if whole % parts:
        near = sorted(divisors(whole), key=lambda n: abs(n - parts))[:2]
        raise SeedbedError(f"{what} do not divide; nearest {name} that do: {' or '.join(map(str, sorted(near)))}")
    return whole // parts
