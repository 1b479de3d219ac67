"""Lengths that grow with what is learned."""

from collections.abc import Iterable

import pytest

from seedbed.config.fields import dump
from seedbed.objectives.thinker.config import Fixed, Progressive, Uniform
from seedbed.objectives.thinker.curriculum import Curriculum


def grown(accuracies: Iterable[float], length: int = 9, **changes: object) -> list[int]:
    """The targets after each batch."""
    made = progressive(length, **changes)
    return [made.learn(accuracy) or made.target for accuracy in accuracies]


def progressive(length: int = 9, **changes: object) -> Curriculum:
    spec = Progressive(kind="progressive", **{"first": 2, "delta": 3, "threshold": 0.8, "window": 3} | changes)
    return Curriculum(dump(spec), length)


def test_lengths_of_each_kind() -> None:
    fixed, uniform = (Curriculum(dump(spec), 9) for spec in (Fixed(kind="fixed"), Uniform(kind="uniform", first=4)))
    assert (fixed.shortest, fixed.longest) == (9, 9)
    assert (uniform.shortest, uniform.longest) == (4, 9)
    assert (progressive().shortest, progressive().longest) == (1, 2)
    for made in (fixed, uniform):
        for _ in range(50):
            made.learn(1.0)
        assert made.longest == 9 and made.state_dict() == {} and not made.grows


def test_it_grows_when_the_mean_of_the_last_batches_reaches_the_threshold() -> None:
    assert grown([1.0, 1.0]) == [2, 2]
    assert grown([1.0, 1.0, 0.25]) == [2, 2, 2]
    assert grown([0.5, 0.75, 0.875, 0.875], threshold=0.8125) == [2, 2, 2, 5]
    assert grown([0.75] * 3, threshold=0.75) == [2, 2, 5]
    assert grown([0.0, 0.0, 1.0, 1.0, 1.0]) == [2, 2, 2, 2, 5]
    assert grown([0.79] * 30) == [2] * 30


def test_it_begins_to_count_again_at_each_target_and_ends_at_the_length() -> None:
    assert grown([1.0] * 12) == [2, 2, 5, 5, 5, 8, 8, 8, 9, 9, 9, 9]
    assert grown([1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0]) == [2, 2, 5, 5, 5, 5, 8]
    assert grown([1.0] * 3, length=4) == [2, 2, 4]
    assert grown([1.0] * 5, length=2) == [2] * 5


@pytest.mark.parametrize("seen", range(8))
def test_it_goes_on_from_its_state(seen: int) -> None:
    accuracies = [1.0, 0.9, 0.7, 0.9, 0.9, 0.1, 1.0, 1.0, 1.0, 1.0]
    made = progressive()
    for accuracy in accuracies[:seen]:
        made.learn(accuracy)
    again = progressive()
    again.load_state_dict(made.state_dict())
    for accuracy in accuracies[seen:]:
        made.learn(accuracy)
        again.learn(accuracy)
        assert (again.target, again.recent) == (made.target, made.recent)
    assert made.target > 5
