"""Iteration helpers."""

from collections.abc import Iterable, Iterator
from itertools import islice
from math import isqrt


def batched(items: Iterable, size: int) -> Iterator[list]:
    """Lists of `size` items in order, the last one shorter (`itertools.batched` of Python 3.12)."""
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch


def divisors(number: int) -> list[int]:
    """The divisors of a positive number in order, in as many steps as its square root."""
    small = [n for n in range(1, isqrt(number) + 1) if number % n == 0]
    return small + [number // n for n in reversed(small) if n * n != number]
