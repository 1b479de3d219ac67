from math import cos, pi

import pytest

from seedbed.config import WSD, Constant, Cosine, Linear
from seedbed.plan import dump
from seedbed.train.schedules import lr_ratio

STEPS = 100


def ratios(schedule: object, steps: int = STEPS) -> list[float]:
    return [lr_ratio(dump(schedule), step, steps) for step in range(steps)]


@pytest.mark.parametrize("schedule", [Constant, Linear, Cosine, WSD])
def test_warmup_is_linear_and_ends_at_the_peak(schedule: type) -> None:
    kind = schedule.__name__.lower()
    by_steps = ratios(schedule(kind=kind, warmup_steps=10))
    assert by_steps[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert by_steps == ratios(schedule(kind=kind, warmup_ratio=0.1))
    assert max(by_steps) == 1


def test_constant_stays() -> None:
    assert set(ratios(Constant(kind="constant"))) == {1}


def test_linear_falls_evenly_to_its_floor() -> None:
    found = ratios(Linear(kind="linear", min_lr_ratio=0.5))
    assert found[-1] == pytest.approx(0.5)
    assert found[49] == pytest.approx(0.75)


def test_cosine_falls_along_half_a_wave() -> None:
    found = ratios(Cosine(kind="cosine", min_lr_ratio=0))
    assert found == pytest.approx([(1 + cos(pi * (step + 1) / STEPS)) / 2 for step in range(STEPS)])
    assert ratios(Cosine(kind="cosine"))[-1] == pytest.approx(0.1)


@pytest.mark.parametrize(("shape", "halfway"), [("linear", 0.5), ("cosine", 0.5), ("sqrt", 1 - 0.5**0.5)])
def test_wsd_is_stable_and_then_decays(shape: str, halfway: float) -> None:
    found = ratios(WSD(kind="wsd", stable_ratio=0.8, decay=shape))
    assert set(found[:80]) == {1}
    assert found[89] == pytest.approx(halfway)
    assert found[-1] == pytest.approx(0)


def test_wsd_with_warmup_beyond_its_stable_part_decays_after_the_warmup() -> None:
    found = ratios(WSD(kind="wsd", stable_ratio=0.1, warmup_steps=20))
    assert found[19] == 1
    assert found[-1] == pytest.approx(0)
    assert all(earlier >= later for earlier, later in zip(found[19:], found[20:], strict=False))


def test_the_learning_rate_is_never_negative_nor_above_the_peak() -> None:
    for schedule in (Linear(kind="linear", warmup_ratio=1.0), WSD(kind="wsd", stable_ratio=1.0), Cosine(kind="cosine")):
        for steps in (1, 2, 3, 50):
            assert all(0 <= ratio <= 1 for ratio in ratios(schedule, steps))
