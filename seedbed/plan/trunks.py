"""Trunks: the first updates that several runs have in common, trained once.

Runs that differ only in their length, or in where and how their learning rate decays, make the same updates until the
first of them decays. That part is a trunk, and each run branches from its end.
"""

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from heapq import merge

from seedbed.files import sha256_of
from seedbed.train.schedules import common_spec, stable_until

NAMED = 12  # runs of a trunk that are remembered by name


@dataclass(frozen=True)
class Trunk:
    """The first `step` updates of several runs; `common` is the checksum of the part of their specs that they share.

    `spec` is that of a run which makes just these updates, `before` the trunk that this one continues. Both follow from
    `common` and `step`.
    """

    spec: dict = field(compare=False)
    step: int
    common: str
    before: "Trunk | None" = field(default=None, compare=False)

    @property
    def name(self) -> str:
        return f"{self.common[:12]}/{self.step}"

    @property
    def chain(self) -> list["Trunk"]:
        """This trunk and those that it grows from, the longest first."""
        found = [self]
        while found[-1].before:
            found.append(found[-1].before)
        return found


@dataclass(frozen=True)
class Users:
    """The runs that grow from a trunk: how many, and the names of the first."""

    count: int
    first: list[str]


def trunk_at(spec: dict, steps: int, step: int, before: Trunk | None = None) -> Trunk:
    """The first `step` updates of a run of this spec."""
    common = common_spec(spec, steps, step)
    budget = dict.fromkeys(spec["budget"]) | {"steps": step}
    return Trunk(spec if common is spec else common | {"budget": budget}, step, sha256_of(common), before)


def grow(runs: dict[str, tuple[dict, int]], wanted: list[tuple[str, int]]) -> dict[str, Trunk]:
    """The last trunk of each run that has one, by the run's name.

    `runs` has the spec and the number of steps of each. Trunks end where at least two runs diverge, and where another
    run is to start: `wanted` has pairs of run and step.
    """
    limits = {name: stable_until(spec["schedule"], steps) for name, (spec, steps) in runs.items()}
    shared = {name: sha256_of(common_spec(*runs[name], limit)) for name, limit in limits.items() if limit}
    leaving = defaultdict(list)
    for name, common in shared.items():
        leaving[common].append(limits[name])
    ends = defaultdict(set, {common: parted(steps) for common, steps in leaving.items()})
    for name, step in wanted:
        ends[trunk_at(*runs[name], step).common].add(step)
    ordered = {common: sorted(steps) for common, steps in ends.items()}
    made, last = defaultdict(list), {}
    for name, (spec, steps) in runs.items():
        chain = None
        for common, most in ((shared.get(name), limits[name]), (sha256_of(spec), steps)):
            places, trunks = ordered.get(common, []), made[common]
            reached = bisect_right(places, most)
            for step in places[len(trunks) : reached]:
                trunks.append(trunk_at(spec, steps, step, trunks[-1] if trunks else chain))
            chain = trunks[reached - 1] if reached else chain
        if chain:
            last[name] = chain
    return last


def parted(steps: list[int]) -> set[int]:
    """Where runs with a common part leave it while another one goes on, or leaves with them."""
    if len(steps) < 2:
        return set()
    second = sorted(steps)[-2]
    return {step for step in steps if step <= second}


def by_name(last: dict[str, Trunk]) -> dict[str, Trunk]:
    """Every trunk, given the last one of each run; those that others grow from included."""
    found = {}
    for trunk in last.values():
        while trunk and trunk.name not in found:
            found[trunk.name] = trunk
            trunk = trunk.before
    return found


def users(last: dict[str, Trunk]) -> dict[str, Users]:
    """The runs of each trunk by its name, given the last trunk of each run."""
    numbers = {name: number for number, name in enumerate(last)}
    found = defaultdict(lambda: Users(0, []))

    def add(trunk: Trunk, count: int, names: list[str]) -> None:
        known = found[trunk.name]
        first = list(merge(known.first, names, key=numbers.get))[:NAMED]
        found[trunk.name] = Users(known.count + count, first)

    for name, trunk in last.items():
        add(trunk, 1, [name])
    for trunk in sorted(by_name(last).values(), key=lambda trunk: -trunk.step):
        if trunk.before:
            add(trunk.before, found[trunk.name].count, found[trunk.name].first)
    return dict(found)
