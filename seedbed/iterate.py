"""Iteration helpers."""

from collections.abc import Iterable, Iterator
from itertools import islice


def batched(items: Iterable, size: int) -> Iterator[list]:
    """Lists of `size` items in order, the last one shorter (`itertools.batched` of Python 3.12)."""
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch
