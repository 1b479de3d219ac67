"""Whatever a configuration has, planning it succeeds or tells in one line which key is wrong."""

import resource
from collections.abc import Callable
from pathlib import Path

from fuzz.mutations import Mutated, Text, edited, mutated
from hypothesis import strategies as st

from seedbed.config.load import check, load
from seedbed.errors import SeedbedError
from seedbed.files import sha256_of
from seedbed.plan import Plan
from seedbed.plan.forecast import forecast
from seedbed.plan.specs import SPECS, contamination_spec, study_specs, trunk_spec

MEMORY = 2 << 30  # bytes beyond what a process has before
CONFIG = "config.yaml"
EXAMPLES = st.one_of(mutated(), mutated(), mutated(), edited())


def limit_memory() -> None:
    """Let an example that would fill the memory end with a MemoryError."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


def holds(example: Mutated | Text) -> str:
    """What came of an example; raises where that is neither a plan nor a line. Texts go into the working directory."""
    if isinstance(example, Mutated):
        return planned_or_told(lambda: Plan(check(example.raw)))
    Path(CONFIG).write_text(example.text, encoding="utf-8", errors="surrogatepass")
    return planned_or_told(lambda: Plan(load(CONFIG)))


def planned_or_told(made: Callable[[], Plan]) -> str:
    try:
        plan_everything(made())
    except SeedbedError as error:
        message = str(error)
        assert len(message) <= 400 and message.isprintable(), f"no line: {message!r}"
        assert message.startswith(("config: ", f"{CONFIG}: ")), f"names no key: {message}"
        return "refused"
    return "planned"


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
    assert all(line.isprintable() for line in forecast(plan).splitlines())
