"""A search for every distinct failure of a property, where hypothesis alone ends with the first."""

import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from seedbed.errors import cut, printable

QUIET = {"database": None, "deadline": None, "suppress_health_check": list(HealthCheck)}


class Hang(Exception):
    """An example took too long."""


def search(examples: SearchStrategy, holds: Callable[[Any], str], n: int, number: int, seconds: int) -> int:
    """Try `n` examples; print each distinct failure and how often what came out, and return how many failures."""
    outcomes, failures, began = Counter(), Counter(), time.monotonic()

    def too_long(*_: object) -> None:
        raise Hang(f"more than {seconds} s")

    signal.signal(signal.SIGALRM, too_long)

    @seed(number)
    @settings(max_examples=n, phases=[Phase.generate], **QUIET)
    @given(examples)
    def one(example: Any) -> None:
        signal.alarm(seconds)
        try:
            outcomes[holds(example)] += 1
        except Exception as error:
            signal.alarm(0)
            kind = f"{type(error).__name__} at {place_of(error)}"
            kind += f": {str(error).partition(':')[0]}" if isinstance(error, AssertionError) else ""
            if kind not in failures:
                print(f"{kind}\n    {told(error, 400)}\n    {told(example, 600)}", flush=True)
            failures[kind] += 1
        finally:
            signal.alarm(0)

    one()
    for kind, count in failures.most_common():
        print(f"{count:6} {kind}")
    counted = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    print(f"{counted}, {failures.total()} failed; {time.monotonic() - began:.0f} s", flush=True)
    return len(failures)


def told(value: Any, most: int) -> str:
    return cut(printable(str(value)), most)


def place_of(error: Exception) -> str:
    """The last lines of Seedbed that an error came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/seedbed/" in frame.filename]
    return " < ".join(f"{frame.filename.rpartition('/seedbed/')[2]}:{frame.lineno}" for frame in frames[::-1][:3])
