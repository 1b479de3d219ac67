from math import ceil, log2

import pytest
import torch

from seedbed.errors import SeedbedError
from seedbed.objectives.contract import Sizes
from seedbed.train.execution import Execution
from seedbed.train.memory import advice, estimate, largest_that_fits, out_of_memory_reported, ran_out

SIZES = [96, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1]
GIB = 2**30
CPU_MESSAGE = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried ..."


# --- what fits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [SIZES, SIZES[:1], SIZES[:2], SIZES[:3], [7, 1], [1]])
def test_the_largest_that_fits_is_found_with_few_tries(sizes: list[int]) -> None:
    for limit in range(min(sizes), max(sizes) + 2):
        tried = []

        def fits(size: int, limit: int = limit, tried: list = tried) -> bool:
            tried.append(size)
            return size <= limit

        assert largest_that_fits(sizes, fits) == max(size for size in sizes if size <= limit)
        assert len(tried) <= ceil(log2(len(sizes))) + 1
        assert len(set(tried)) == len(tried), "what was tried once is not tried again"


@pytest.mark.parametrize("sizes", [SIZES, [5], [5, 1]])
def test_when_nothing_fits_it_is_told(sizes: list[int]) -> None:
    tried = []
    with pytest.raises(SeedbedError, match=f"^not even micro_batch {sizes[-1]} fits into memory$"):
        largest_that_fits(sizes, lambda size: tried.append(size))
    assert tried[-1] == sizes[-1] and len(tried) <= ceil(log2(len(sizes))) + 1


# --- what it takes ----------------------------------------------------------------------------------------------------


def test_the_estimate_counts_weights_gradients_moments_and_activations() -> None:
    found = estimate(Sizes(GIB, GIB, 8, 1024, 512), 8, Execution())
    assert found == {"weights and gradients": 8.0, "optimizer": 8.0, "activations": 34 / 32}
    kept = estimate(Sizes(GIB, GIB, 8, 1024, 512), 8, Execution(gradient_checkpointing=True))
    assert kept == found | {"activations": 4 / 32}


@pytest.mark.parametrize(("stage", "weights", "optimizer"), [(0, 8, 8), (1, 8, 2), (2, 5, 2), (3, 2, 2)])
def test_every_stage_of_zero_shares_out_more(stage: int, weights: float, optimizer: float) -> None:
    found = estimate(Sizes(GIB, GIB, 1, 1, 1), 1, Execution(zero_stage=stage, processes=4))
    assert (found["weights and gradients"], found["optimizer"]) == (weights, optimizer)
    alone = estimate(Sizes(GIB, GIB, 1, 1, 1), 1, Execution(zero_stage=stage))
    assert (alone["weights and gradients"], alone["optimizer"]) == (8, 8)


# --- what to say ------------------------------------------------------------------------------------------------------


def test_the_advice_has_the_estimate_and_what_to_change() -> None:
    sizes = {"weights and gradients": 1.234, "optimizer": 2.0}
    assert advice(sizes, 8, Execution(processes=2, zero_stage=1), [4]) == (
        "micro_batch 8 needs about weights and gradients 1.23 GiB, optimizer 2.00 GiB; "
        "try micro_batch 4 or gradient_checkpointing 1 or zero_stage 2"
    )


@pytest.mark.parametrize(
    ("micro_batch", "execution", "ways"),
    [
        (1, {}, "gradient_checkpointing 1"),
        (2, {"gradient_checkpointing": True}, "micro_batch 1"),
        (1, {"gradient_checkpointing": True, "processes": 2}, "zero_stage 1"),
        (1, {"gradient_checkpointing": True, "processes": 2, "zero_stage": 3}, "a smaller model or seq_len"),
        (1, {"gradient_checkpointing": True, "zero_stage": 1}, "a smaller model or seq_len"),
    ],
)
def test_only_what_would_still_help_is_advised(micro_batch: int, execution: dict, ways: str) -> None:
    smaller = [micro_batch // 2] if micro_batch > 1 else []
    assert advice({"activations": 1.0}, micro_batch, Execution(**execution), smaller).endswith(f"; try {ways}")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity of .."),
        RuntimeError(CPU_MESSAGE),
        MemoryError(),
    ],
)
def test_an_allocation_that_fails_is_one_line(error: Exception) -> None:
    with pytest.raises(SeedbedError) as caught, out_of_memory_reported("small", lambda: "try micro_batch 4"):
        raise error
    assert str(caught.value) == "small: out of memory: try micro_batch 4"
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_the_allocator_of_the_cpu_still_says_what_is_looked_for() -> None:
    with (
        pytest.raises(SeedbedError, match="^small: out of memory: less$"),
        out_of_memory_reported("small", lambda: "less"),
    ):
        torch.empty(2**50, dtype=torch.uint8)  # more than any address space has


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        ValueError("can't allocate memory"),
        SeedbedError("the loss is not a number"),
        KeyboardInterrupt(),
    ],
)
def test_other_errors_pass_as_they_are(error: BaseException) -> None:
    def never() -> str:
        raise AssertionError("nobody asked for advice")

    with pytest.raises(type(error)) as caught, out_of_memory_reported("small", never):
        raise error
    assert caught.value is error


def test_advice_costs_nothing_when_all_goes_well() -> None:
    with out_of_memory_reported("small", lambda: pytest.fail("nobody asked for advice")):
        pass


def test_running_out_is_told_from_other_errors() -> None:
    assert ran_out(torch.OutOfMemoryError("")) and ran_out(MemoryError()) and ran_out(RuntimeError(CPU_MESSAGE))
    assert not ran_out(RuntimeError("CUDA error: an illegal memory access was encountered"))
