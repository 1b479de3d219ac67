"""Whatever a configuration has, planning it succeeds or tells in one line which key is wrong."""

import os
import re
import resource
import signal
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from fuzz.mutations import edited_text, mutated
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from seedbed.config.load import check, load
from seedbed.errors import SeedbedError
from seedbed.files import sha256_of
from seedbed.plan import Plan
from seedbed.plan.forecast import forecast
from seedbed.plan.specs import SPECS, contamination_spec, study_specs, trunk_spec

MEMORY = 2 << 30  # bytes beyond what a process has before
CONFIG = "config.yaml"


class Hang(Exception):
    """An example took too long."""


def plan_everything(plan: Plan) -> None:
    """The specs of all stages, and what a dry run prints."""
    for names, spec in SPECS.values():
        for name in names(plan):
            sha256_of(spec(plan, name))
    for trunk in plan.trunks_by_name:
        sha256_of(trunk_spec(plan, trunk))
    for name, evaluation in plan.config.evaluations.items():
        if evaluation.kind == "cmmlu":
            sha256_of(contamination_spec(plan, name))
    sha256_of(study_specs(plan))
    assert isinstance(forecast(plan), str)


def holds(made: Callable[[], Plan]) -> bool:
    """Whether a plan can be made; what is wrong is told in one line that names a key or the file, or this raises."""
    try:
        plan_everything(made())
    except SeedbedError as error:
        message = str(error)
        assert len(message) <= 400 and message.isprintable(), f"no line: {message!r}"
        assert re.match(rf"config: |{CONFIG}: ", message), f"names no key: {message}"
        return False
    return True


examples = st.one_of(mutated(), mutated(), mutated(), edited_text())


def holds_for(example: object) -> bool:
    if isinstance(example, tuple):
        Path(CONFIG).write_text(example[0], encoding="utf-8", errors="surrogatepass")
        return holds(lambda: Plan(load(CONFIG)))
    return holds(lambda: Plan(check(example.raw)))


def limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


def search(n: int, number: int | None, seconds: int, report: Callable[[str], None]) -> int:
    """Try `n` examples, with a seed of their own; report distinct failures as they are found, and return how many."""
    limit_memory()
    os.chdir(tempfile.mkdtemp())
    found, counts = {}, {True: 0, False: 0}

    def too_long(*_: object) -> None:
        raise Hang(f"more than {seconds} s")

    signal.signal(signal.SIGALRM, too_long)

    @settings(
        max_examples=n, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(examples)
    def one(example: object) -> None:
        signal.alarm(seconds)
        try:
            counts[holds_for(example)] += 1
        except Exception as error:
            signal.alarm(0)
            key = type(error).__name__, place_of(error), str(error)[:40] if isinstance(error, AssertionError) else ""
            if key not in found:
                said = example[1] if isinstance(example, tuple) else repr(example)
                report(f"{key[0]} at {key[1]}: {str(error)[:300]!r}\n    {said[:600]}")
            found[key] = found.get(key, 0) + 1
        finally:
            signal.alarm(0)

    seed(number)(one)()
    for key, count in sorted(found.items(), key=lambda pair: -pair[1]):
        report(f"{count:6} {key}")
    report(f"{counts[True]} planned, {counts[False]} refused, {sum(found.values())} failed")
    return len(found)


def place_of(error: Exception) -> str:
    """The last lines of Seedbed that an error came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/seedbed/" in frame.filename]
    return " < ".join(f"{frame.filename.rpartition('/seedbed/')[2]}:{frame.lineno}" for frame in frames[::-1][:3])
