import numpy as np

from seedbed.objectives.thinker.tasks import generate, task_of


def test_numbers_with_more_digits_than_the_largest_end_with_zeros() -> None:
    task = task_of({"name": "addition", "base": 10, "largest": 999, "width": "fixed"})
    found = generate(task, "test", 0, range(8), 40, 40)
    assert not found.inputs[:, 3:40].any() and not found.inputs[:, 44:81].any()
    numbers = [found.inputs[:, start : start + 3] @ np.array([1, 10, 100]) for start in (0, 41)]
    assert np.array_equal(found.targets[:, :4] @ np.array([1, 10, 100, 1000]), sum(numbers))
    assert not found.targets[:, 4:].any()
