import json
from math import inf, nan

import pytest

from seedbed.config.fields import dump
from seedbed.config.run import Spikes
from seedbed.train.spikes import after_rollback, calm, find_spike, quantile, watch_start, way_back


def spec(**fields: object) -> dict:
    return dump(Spikes(**{"window": 4, "quantile": 0.5, "factor": 2.0, "every": 10} | fields))


def test_a_loss_over_the_limit_is_a_spike() -> None:
    # The two smallest of four are half of them: the quantile is 2, the limit 4.
    assert find_spike(spec(), [1.0, 9.0, 2.0, 3.0], [4.01]) == (0, 4.0)
    assert find_spike(spec(), [1.0, 9.0, 2.0, 3.0], [4.0]) is None
    assert find_spike(spec(quantile=1.0), [1.0, 9.0, 2.0, 3.0], [18.0]) is None
    assert find_spike(spec(quantile=0.0), [1.0, 9.0, 2.0, 3.0], [2.1]) == (0, 2.0)
    assert find_spike(spec(factor=3.0), [1.0, 9.0, 2.0, 3.0], [6.5]) == (0, 6.0)


def test_the_first_spike_is_told_and_only_what_came_before_counts() -> None:
    assert find_spike(spec(), [1.0] * 4, [1.5, 1.9, 5.0, 7.0]) == (2, 2.0)
    # Losses that were calm are part of the quantile of the next one: slow growth is no spike, a jump from there is.
    growing = [1.0 * 1.2**step for step in range(40)]
    assert find_spike(spec(), growing[:4], growing[4:]) is None
    index, limit = find_spike(spec(), growing[:4], [*growing[4:], 3 * growing[-1]])
    assert (index, limit) == (36, 2 * growing[-3])


def test_nothing_is_a_spike_before_a_window_of_losses() -> None:
    assert find_spike(spec(), [1.0] * 3, [100.0]) is None
    assert find_spike(spec(), [], [1.0, 1.0, 1.0, 100.0]) is None
    assert find_spike(spec(), [], [1.0, 1.0, 1.0, 1.0, 100.0]) == (4, 2.0)


def test_only_the_last_window_counts() -> None:
    assert find_spike(spec(), [100.0] * 50 + [1.0] * 4, [3.0]) == (0, 2.0)


@pytest.mark.parametrize("loss", [nan, inf, -inf])
def test_a_loss_that_is_not_finite_is_always_a_spike(loss: float) -> None:
    assert find_spike(spec(), [], [1.0, loss]) == (1, None)
    assert find_spike(spec(), [1.0] * 4, [loss]) == (0, None)
    assert find_spike(spec(), [1.0] * 4, [5.0, loss]) == (0, 2.0)


def test_looking_changes_nothing() -> None:
    recent, losses = [1.0] * 4, [1.0, 5.0]
    find_spike(spec(), recent, losses)
    assert (recent, losses) == ([1.0] * 4, [1.0, 5.0])


def test_quantiles_are_values_that_were_there() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [quantile(values, share) for share in (0.0, 0.1, 0.2, 0.21, 0.5, 0.8, 0.9, 1.0)] == [1, 1, 1, 2, 3, 4, 5, 5]
    assert quantile([7.0], 0.3) == 7
    assert values == [5.0, 1.0, 4.0, 2.0, 3.0]
    assert quantile([float(value) for value in range(1, 129)], 0.9) == 116  # 0.9 x 128 is 115.2


def test_calm_steps_are_remembered_as_far_as_the_window() -> None:
    state = calm(spec(), watch_start(), [1.0, 2.0])
    assert state == {"recent": [1.0, 2.0], "skipped": 0, "met": []}
    state = calm(spec(), state | {"skipped": 7, "met": [{"step": 3}]}, [3.0, 4.0, 5.0])
    assert state == {"recent": [2.0, 3.0, 4.0, 5.0], "skipped": 7, "met": [{"step": 3}]}
    assert watch_start()["recent"] == []


def test_the_state_finds_the_same_spikes_as_the_whole_history() -> None:
    losses = [3.0, 2.5, 2.4, 2.6, 2.2, 2.3, 2.1, 2.2, 9.0]
    state = watch_start()
    for first in range(0, 8, 2):
        assert find_spike(spec(), state["recent"], losses[first : first + 2]) is None
        state = json.loads(json.dumps(calm(spec(), state, losses[first : first + 2])))
    assert find_spike(spec(), state["recent"], losses[8:]) == (0, find_spike(spec(), [], losses)[1])


@pytest.mark.parametrize(("step", "back"), [(1, 0), (10, 0), (11, 10), (19, 10), (20, 10), (21, 20), (101, 100)])
def test_the_way_back_leads_to_the_last_multiple_before_the_spike(step: int, back: int) -> None:
    assert way_back(spec(), step) == back


def test_a_rollback_leaves_out_the_batches_that_were_read_since() -> None:
    state = {"recent": [2.0] * 4, "skipped": 5, "met": [{"step": 8, "skipped": 5}]}
    kept = {"recent": [1.0] * 4, "skipped": 5, "met": [{"step": 8, "skipped": 5}]}
    spike = {"step": 27, "loss": 9.0, "limit": 4.0, "back_to": 20}
    before = json.dumps([state, kept, spike])
    made = after_rollback(state, spike, kept)
    assert made == {
        "recent": [1.0] * 4,
        "skipped": 12,
        "met": [{"step": 8, "skipped": 5}, {"step": 27, "loss": 9.0, "limit": 4.0, "back_to": 20, "skipped": 7}],
    }
    # Update 27 had read batch 26 + 5, and the first one after going back, 21, reads the next: 20 + 12.
    assert 20 + made["skipped"] == (27 - 1) + 5 + 1
    assert json.dumps([state, kept, spike]) == before
    assert json.loads(json.dumps(made)) == made


def test_going_back_further_than_the_last_spike_forgets_neither_it_nor_its_batches() -> None:
    first = after_rollback(watch_start(), {"step": 15, "loss": None, "limit": None, "back_to": 10}, watch_start())
    second = after_rollback(first, {"step": 12, "loss": 8.0, "limit": 4.0, "back_to": 0}, watch_start())
    assert second["skipped"] == 5 + 12
    assert [spike["step"] for spike in second["met"]] == [15, 12]
