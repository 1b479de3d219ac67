"""Trunks: the first updates that several runs have in common, trained once.

Runs that differ only in their length, or in where and how their learning rate decays, make the same updates until the
first of them decays. That part is a trunk, and each run branches from its end.
"""

from dataclasses import dataclass

from seedbed.files import sha256_of
from seedbed.train.schedules import common_spec, stable_until


@dataclass(frozen=True)
class Trunk:
    """The first `step` updates of several runs; `common` is the checksum of the part of their specs that they share.

    `spec` is that of a run which makes just these updates, `before` the trunk that this one continues.
    """

    spec: dict
    step: int
    common: str
    before: "Trunk | None" = None

    @property
    def name(self) -> str:
        return f"{self.common[:12]}/{self.step}"

    @property
    def chain(self) -> list["Trunk"]:
        """This trunk and those that it grows from, the longest first."""
        return [self, *(self.before.chain if self.before else [])]


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
    limits = [(spec, steps, stable_until(spec["schedule"], steps)) for spec, steps in runs.values()]
    leaving = [trunk_at(spec, steps, limit) for spec, steps, limit in limits if limit]
    ends = {
        (one.common, one.step)
        for one in leaving
        if sum(other.common == one.common and other.step >= one.step for other in leaving) > 1
    }
    ends |= {(one.common, one.step) for one in (trunk_at(*runs[name], step) for name, step in wanted)}
    last = {}
    for name, (spec, steps) in runs.items():
        chain = None
        for step in sorted({step for _, step in ends if step <= steps}):
            if (trunk_at(spec, steps, step).common, step) in ends:
                chain = trunk_at(spec, steps, step, chain)
        if chain:
            last[name] = chain
    return last
