"""Progress of what takes a while: a bar in a terminal, a line now and then elsewhere, nothing for what is soon done."""

import os
import sys
from collections.abc import Iterable
from typing import TextIO

from tqdm import tqdm

LINE = "{desc}: {percentage:.0f}% ({n_fmt} of {total_fmt} {unit}), {elapsed}, {remaining} left{postfix}"
UNBOUNDED = "{desc}: {n_fmt} {unit}, {elapsed}{postfix}"
IN_TERMINAL = {"delay": 1, "mininterval": 0.2}
ELSEWHERE = {"delay": 10, "mininterval": 30, "maxinterval": 60}


class Lines:
    """A file to which each state of a bar is a line of its own."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        if text := text.strip():
            self.stream.write(text + "\n")

    def flush(self) -> None:
        self.stream.flush()


def progress(items: Iterable | None = None, *, what: str, unit: str, total: float | None = None, **options) -> tqdm:
    """Items as they are, or a counter to `update`, whose progress is shown on the standard error stream.

    `what` is being done, `unit` what is counted; other options are those of tqdm.
    """
    if sys.stderr.isatty():
        # A terminal that does not know its size says 0, and tqdm would show nothing.
        size = os.get_terminal_size(sys.stderr.fileno())
        room = {"dynamic_ncols": True} if all(size) else {"ncols": size.columns or 80, "nrows": size.lines or 24}
        shown = IN_TERMINAL | room | {"unit": unit if options.get("unit_scale") else f" {unit}"}
        return tqdm(items, desc=what, total=total, **shown | options)
    total = len(items) if total is None and hasattr(items, "__len__") else total
    shown = ELSEWHERE | {"file": Lines(sys.stderr), "bar_format": UNBOUNDED if total is None else LINE, "unit": unit}
    return tqdm(items, desc=what, total=total, **shown | options)
