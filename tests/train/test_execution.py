import pytest

from seedbed.config.run import Unit
from seedbed.errors import SeedbedError
from seedbed.train.execution import Batching, Execution, cpu_micro_batch

UNIT = Unit("tokens", 24 * 128, 128)


def batching(**options: int) -> Batching:
    execution = Execution(**options)
    return Batching.of(UNIT, execution, steps=5, micro_batch=cpu_micro_batch(UNIT, execution, 128, width=32))


@pytest.mark.parametrize("execution", [{}, {"processes": 2}, {"processes": 3, "micro_batch": 4}, {"micro_batch": 1}])
def test_ranks_and_micro_batches_share_out_each_step_exactly(execution: dict) -> None:
    made = batching(**execution)
    for step in (0, 4):
        ranks = range(made.processes)
        numbers = [number for rank in ranks for part in made.samples(step, rank) for number in part]
        assert sorted(numbers) == list(range(24 * step, 24 * step + 24))
        assert len({len(made.samples(step, rank)) for rank in ranks}) == 1


def test_an_automatic_micro_batch_is_the_largest_that_divides_and_suits_a_cpu() -> None:
    assert batching().micro_batch == 24
    assert cpu_micro_batch(Unit("tokens", 100 * 128, 128), Execution(), 128, width=32) == 50
    assert cpu_micro_batch(UNIT, Execution(), 128, width=256) == 8
    assert cpu_micro_batch(UNIT, Execution(), 128, width=2**14) == 1


@pytest.mark.parametrize(
    ("execution", "told"),
    [
        (
            {"processes": 5},
            "24 samples \\(3072 tokens\\), which 5 processes do not divide; nearest processes that do: 4 or 6",
        ),
        (
            {"processes": 2, "micro_batch": 5},
            "12 samples of a batch, which micro_batch 5 do not divide; nearest micro_batch that do: 4 or 6",
        ),
        ({"zero_stage": 7}, "zero_stage: found 7, expected 0, 1, 2 or 3"),
        ({"offload": "gpu", "zero_stage": 1}, "offload: found 'gpu'; did you mean 'cpu'"),
        ({"offload": "cpu"}, "offload cpu needs ZeRO: found zero_stage 0"),
        ({"processes": -1}, "expected at least 0"),
    ],
)
def test_what_does_not_divide_is_told_with_what_does(execution: dict, told: str) -> None:
    with pytest.raises(SeedbedError, match=told):
        batching(**execution)


def test_steps_follow_from_each_kind_of_budget() -> None:
    for budget, steps in (({"tokens": 30720}, 10), ({"steps": 7}, 7), ({"epochs": 2.4}, 100)):
        empty = {"tokens": None, "steps": None, "epochs": None}
        assert UNIT.steps(empty | budget, 1000 * 128) == steps
