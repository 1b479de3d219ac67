"""Intervals and tests without assumptions on the distribution."""

from math import sqrt

import numpy as np

Z95 = 1.959963984540054
RESAMPLES = 10_000


def wilson(right: int, total: int) -> tuple[float, float]:
    """95% interval of a proportion (Wilson 1927)."""
    if not total:
        return 0.0, 1.0
    share, z2 = right / total, Z95**2 / total
    centre = (share + z2 / 2) / (1 + z2)
    half = Z95 * sqrt(share * (1 - share) / total + z2 / (4 * total)) / (1 + z2)
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap_mean(values: np.ndarray) -> tuple[float, float]:
    """95% percentile interval of the mean (Efron 1979), the same at every call."""
    generator = np.random.default_rng(0)
    means = generator.choice(values, (RESAMPLES, len(values))).mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def bootstrap_macro(hits: list[int], totals: list[int]) -> tuple[float, float]:
    """95% percentile interval of the mean of the groups' shares hits / totals, drawn anew within each group."""
    generator, totals = np.random.default_rng(0), np.array(totals)
    # Drawing n answers with replacement and counting the right ones is one binomial draw.
    drawn = generator.binomial(totals, np.array(hits) / totals, (RESAMPLES, len(totals)))
    low, high = np.quantile((drawn / totals).mean(1), [0.025, 0.975])
    return float(low), float(high)


def paired_test(differences: np.ndarray) -> float:
    """Two-sided p-value of paired differences being centred at 0: Fisher's sign-flip test, sampled, never 0."""
    generator = np.random.default_rng(0)
    signs = generator.choice([-1.0, 1.0], (RESAMPLES, len(differences)))
    flipped = np.abs((signs * differences).mean(1))
    return float((1 + np.sum(flipped >= abs(differences.mean()) - 1e-12)) / (1 + RESAMPLES))
