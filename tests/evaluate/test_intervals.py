import numpy as np
import pytest

from seedbed.evaluate.intervals import bootstrap_macro, bootstrap_mean, paired_test, wilson


def test_wilson_is_that_of_the_tables() -> None:
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(0, 0) == (0, 1)


def test_the_bootstrap_covers_the_mean_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    intervals = [bootstrap_mean(generator.normal(size=30)) for _ in range(200)]
    assert 0.88 < np.mean([low <= 0 <= high for low, high in intervals]) < 0.99


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert bootstrap_mean(np.full(5, 0.25)) == (0.25, 0.25)


def test_the_paired_test_keeps_its_level_and_finds_differences() -> None:
    generator = np.random.default_rng(2)
    null = [paired_test(generator.normal(size=20)) for _ in range(200)]
    assert 0.01 < np.mean(np.array(null) < 0.05) < 0.1
    assert paired_test(generator.normal(1.0, 1.0, 30)) < 0.01
    assert paired_test(np.zeros(10)) == 1


def test_few_pairs_cannot_be_significant() -> None:
    assert paired_test(np.ones(4)) == pytest.approx(2 / 2**4, abs=0.02)


def test_the_macro_mean_varies_by_what_varies_within_its_groups() -> None:
    assert bootstrap_macro([0, 10], [10, 10]) == (0.5, 0.5)
    low, high = bootstrap_macro([50, 0], [100, 7])
    assert (low, high) == pytest.approx((0.2, 0.3), abs=0.01)  # half of 0.5 +- 1.96 * 0.05
    assert bootstrap_macro([30], [60]) == pytest.approx(bootstrap_mean(np.repeat([0.0, 1.0], 30)), abs=0.02)
