"""Memory of training: how much it needs, which micro-batch fits, and what to advise when it runs out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from seedbed.errors import SeedbedError
from seedbed.objectives.contract import Sizes
from seedbed.train.execution import Execution

GIB = 2**30
# Bytes per token, layer and unit of width that a layer stores for the backward pass in bf16 (arXiv 2205.05198, eq. 1,
# without the attention scores, which no backend here stores); with gradient checkpointing only its input.
ACTIVATION_BYTES, CHECKPOINTED_BYTES = 34, 4


def estimate(sizes: Sizes, micro_batch: int, execution: Execution) -> dict[str, float]:
    """GiB per process: weights with gradients, optimizer state, activations of `micro_batch` samples."""
    shards = [execution.processes if execution.zero_stage >= stage else 1 for stage in (1, 2, 3)]
    per_layer = CHECKPOINTED_BYTES if execution.gradient_checkpointing else ACTIVATION_BYTES
    return {
        "weights and gradients": sizes.parameters * (4 / shards[2] + 4 / shards[1]) / GIB,
        "optimizer": sizes.parameters * 8 / shards[0] / GIB,
        "activations": sizes.layers * sizes.width * micro_batch * sizes.positions * per_layer / GIB,
    }


@contextmanager
def out_of_memory_reported(name: str, describe: Callable[[], str]) -> Iterator[None]:
    """Turn a failed allocation into one line with an estimate and what to change."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        raise SeedbedError(f"{name}: out of memory: {describe()}") from None


def ran_out(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def advice(sizes: dict[str, float], micro_batch: int, execution: Execution, smaller: list[int]) -> str:
    """What was needed, and what to change; `smaller` has the micro-batch to try, if there is one."""
    needed = ", ".join(f"{name} {size:.2f} GiB" for name, size in sizes.items())
    ways = [f"micro_batch {size}" for size in smaller]
    ways += [] if execution.gradient_checkpointing else ["gradient_checkpointing 1"]
    ways += [f"zero_stage {execution.zero_stage + 1}"] if execution.zero_stage < 3 and execution.processes > 1 else []
    return f"micro_batch {micro_batch} needs about {needed}; try {' or '.join(ways) or 'a smaller model or seq_len'}"


def largest_that_fits(sizes: list[int], fits: Callable[[int], bool]) -> int:
    """The first of `sizes` (largest first) that fits, by bisection: where one fits, all smaller ones do.

    Raises SeedbedError when not even the smallest does.
    """
    low, high = 0, len(sizes) - 1
    while low < high:
        middle = (low + high) // 2
        if fits(sizes[middle]):
            high = middle
        else:
            low = middle + 1
    if low == len(sizes) - 1 and not fits(sizes[low]):
        raise SeedbedError(f"not even micro_batch {sizes[low]} fits into memory")
    return sizes[low]
