import json
import random
from math import cos, inf, nan, pi

import pytest
import torch

from seedbed.config.fields import dump
from seedbed.config.run import WSD, Constant, Cosine, Linear
from seedbed.train.schedules import after_validation, lr_ratio, plateau_start, stable_until, trunk

STEPS = 100


def ratios(schedule: object, steps: int = STEPS) -> list[float]:
    schedule = schedule if isinstance(schedule, dict) else dump(schedule)
    return [lr_ratio(schedule, step, steps) for step in range(steps)]


def spec(kind: str, **fields: object) -> dict:
    """The dump of a schedule of this kind."""
    others = {
        "constant": {},
        "linear": {"min_lr_ratio": 0.0},
        "cosine": {"min_lr_ratio": 0.1},
        "cosine-restarts": {"cycles": 2, "min_lr_ratio": 0.1},
        "wsd": {"stable_ratio": 0.9, "decay": "linear", "min_lr_ratio": 0.0},
        "plateau": {"factor": 0.5, "patience": 2, "threshold": 1e-4, "min_lr_ratio": 0.0},
    }
    return {"kind": kind, "warmup_steps": None, "warmup_ratio": None} | others[kind] | fields


@pytest.mark.parametrize("schedule", [Constant, Linear, Cosine, WSD])
def test_warmup_is_linear_and_ends_at_the_peak(schedule: type) -> None:
    kind = schedule.__name__.lower()
    by_steps = ratios(schedule(kind=kind, warmup_steps=10))
    assert by_steps[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert by_steps == ratios(schedule(kind=kind, warmup_ratio=0.1))
    assert max(by_steps) == 1


@pytest.mark.parametrize("kind", ["cosine-restarts", "plateau"])
def test_warmup_comes_before_restarts_and_plateau(kind: str) -> None:
    found = ratios(spec(kind, warmup_ratio=0.1))
    assert found[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert found == ratios(spec(kind, warmup_steps=10))
    assert found[9] == 1


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


def test_wsd_decays_exponentially_to_its_floor() -> None:
    found = ratios(spec("wsd", stable_ratio=0.8, decay="exponential", min_lr_ratio=0.01))
    assert set(found[:80]) == {1}
    assert found[89] == pytest.approx(0.1)
    assert found[-1] == pytest.approx(0.01)
    steps = [later / earlier for earlier, later in zip(found[79:], found[80:], strict=False)]
    assert steps == pytest.approx([0.01 ** (1 / 20)] * 20)


# --- restarts ---------------------------------------------------------------------------------------------------------


def test_one_cycle_is_cosine() -> None:
    fields = {"min_lr_ratio": 0.2, "warmup_steps": 7}
    assert ratios(spec("cosine-restarts", cycles=1, **fields)) == pytest.approx(ratios(spec("cosine", **fields)))


def test_every_cycle_ends_at_the_floor_and_the_next_starts_at_the_peak() -> None:
    found = ratios(spec("cosine-restarts", cycles=4, min_lr_ratio=0.1, warmup_steps=21), 120)  # with the 21st: 4 x 25
    assert [step for step, ratio in enumerate(found) if ratio == 1] == [20, 45, 70, 95]
    assert [step for step, ratio in enumerate(found) if step > 20 and ratio == 0.1] == [44, 69, 94, 119]
    wave = [0.1 + 0.9 * (1 + cos(pi * part / 24)) / 2 for part in range(25)]
    assert found[20:] == pytest.approx(wave * 4)


def test_cycles_that_do_not_divide_the_run_differ_by_one_update() -> None:
    for steps in range(1, 40):
        for cycles in range(1, 50):
            found = [1.0, *ratios(spec("cosine-restarts", cycles=cycles, min_lr_ratio=0.0), steps)]
            starts = [point for point, ratio in enumerate(found) if ratio == 1]
            assert len(starts) == min(cycles, steps + 1)
            lengths = [end - start for start, end in zip(starts, [*starts[1:], steps + 1], strict=True)]
            assert max(lengths) - min(lengths) <= 1
            assert all(found[start + n - 1] == 0 for start, n in zip(starts, lengths, strict=True) if n > 1)


# --- plateau ----------------------------------------------------------------------------------------------------------


def test_plateau_multiplies_the_ratio_of_its_state() -> None:
    schedule = spec("plateau", warmup_steps=4)
    assert [lr_ratio(schedule, step, 8, plateau_ratio=0.5) for step in range(6)] == [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]


def test_plateau_waits_and_then_reduces_to_its_floor() -> None:
    schedule, state = spec("plateau", factor=0.5, patience=2, min_lr_ratio=0.2), plateau_start()
    found = []
    for loss in [3.0, 2.0, 2.5, 2.5, 2.5, 2.5, 1.9, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]:
        state = after_validation(schedule, state, loss)
        found.append(state["ratio"])
    assert found == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2]


def test_an_improvement_must_exceed_the_threshold_and_be_a_number() -> None:
    schedule = spec("plateau", threshold=0.1)
    state = after_validation(schedule, plateau_start(), 1.0)
    assert after_validation(schedule, state, 0.91) == {"best": 1.0, "waited": 1, "ratio": 1.0}
    assert after_validation(schedule, state, 0.89) == {"best": 0.89, "waited": 0, "ratio": 1.0}
    for loss in (nan, inf):
        assert after_validation(schedule, state, loss)["waited"] == 1
        assert after_validation(schedule, plateau_start(), loss) == {"best": None, "waited": 1, "ratio": 1.0}
    assert after_validation(schedule, plateau_start(), 1e20)["best"] == 1e20


def test_plateau_does_what_torch_does_and_survives_json() -> None:
    for seed in range(20):
        draw = random.Random(seed)
        schedule = spec(
            "plateau",
            factor=draw.choice([0.1, 0.5, 0.9]),
            patience=draw.randrange(4),
            threshold=draw.choice([0.0, 1e-4, 0.05]),
            min_lr_ratio=draw.choice([0.0, 0.05]),
        )
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer,
            factor=schedule["factor"],
            patience=schedule["patience"],
            threshold=schedule["threshold"],
            min_lr=schedule["min_lr_ratio"],
            eps=0.0,
        )
        state, loss = plateau_start(), 5.0
        for _ in range(200):
            loss *= draw.uniform(0.95, 1.05)
            reference.step(loss)
            before = json.dumps(state)
            after = after_validation(schedule, state, loss)
            assert json.dumps(state) == before
            state = json.loads(json.dumps(after))
            assert (state["ratio"], state["best"]) == (optimizer.param_groups[0]["lr"], reference.best)
            assert state["waited"] == reference.num_bad_epochs


# --- what runs of different length share ------------------------------------------------------------------------------


def drawn_schedules(count: int) -> list[tuple[dict, int]]:
    """Schedules with a stable part, and numbers of steps."""
    draw = random.Random(0)
    made = []
    for _ in range(count):
        kind = draw.choice(["constant", "plateau", "wsd"])
        warmup = draw.choice([{}, {"warmup_steps": draw.randrange(60)}, {"warmup_ratio": draw.random()}])
        fields = {
            "constant": {},
            "plateau": {"min_lr_ratio": draw.random()},
            "wsd": {
                "stable_ratio": draw.random(),
                "decay": draw.choice(["linear", "cosine", "sqrt", "exponential"]),
                "min_lr_ratio": draw.random(),
            },
        }[kind]
        made.append((spec(kind, **warmup, **fields), draw.randrange(1, 80)))
    return made


def test_the_ratio_is_exactly_one_until_the_decay_whatever_the_floor() -> None:
    draw = random.Random(1)
    for decay in ("linear", "cosine", "sqrt", "exponential"):
        for floor in [0.0, 1.0, 5e-324, 0.1, 1 / 3, *(draw.random() ** draw.choice([1, 9]) for _ in range(300))]:
            assert lr_ratio(spec("wsd", decay=decay, min_lr_ratio=floor), 3, 100) == 1


def test_the_trunk_is_the_schedule_as_long_as_it_is_stable() -> None:
    for schedule, steps in drawn_schedules(400):
        stable, shared = stable_until(schedule, steps), trunk(schedule, steps)
        assert 0 <= stable <= steps
        assert shared["kind"] == ("plateau" if schedule["kind"] == "plateau" else "constant")
        for step in range(stable):
            for length in (steps, 10 * steps):
                assert lr_ratio(shared, step, length) == lr_ratio(schedule, step, steps)
                assert lr_ratio(shared, step, length, 0.3) == lr_ratio(schedule, step, steps, 0.3)
        if stable < steps and schedule["min_lr_ratio"] < 1:
            assert lr_ratio(schedule, stable, steps) < 1


def test_schedules_share_a_trunk_when_their_first_updates_are_equal() -> None:
    shared = {"kind": "constant", "warmup_steps": 8}
    assert trunk(spec("wsd", warmup_ratio=0.04), 200) == shared
    assert trunk(spec("wsd", warmup_steps=8, decay="sqrt", stable_ratio=0.5, min_lr_ratio=0.3), 100) == shared
    assert trunk(spec("constant", warmup_ratio=0.1), 80) == shared
    assert trunk(spec("constant", warmup_steps=1), 80) == trunk(spec("wsd"), 80) == shared | {"warmup_steps": 0}
    assert trunk(spec("plateau", warmup_ratio=0.1), 80) == spec("plateau", warmup_steps=8)
    assert trunk(spec("plateau", factor=0.1), 80) != trunk(spec("plateau", factor=0.5), 80)


def test_how_long_each_kind_is_stable() -> None:
    assert stable_until(spec("constant"), 50) == stable_until(spec("plateau"), 50) == 50
    assert stable_until(spec("wsd", stable_ratio=0.8), 50) == 40
    assert stable_until(spec("wsd", stable_ratio=0.1, warmup_steps=20), 50) == 20
    assert stable_until(spec("wsd", stable_ratio=0.1, warmup_steps=90), 50) == 50
    for kind in ("linear", "cosine", "cosine-restarts"):
        assert stable_until(spec(kind), 50) == 0
        with pytest.raises(ValueError, match=kind):
            trunk(spec(kind), 50)


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="staircase"):
        lr_ratio({"kind": "staircase", "warmup_steps": 0, "warmup_ratio": None}, 1, 2)
