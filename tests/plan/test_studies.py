"""The configurations that come with Seedbed are right."""

from pathlib import Path

import pytest
from support import ROOT

from seedbed.config.load import load
from seedbed.plan import Plan
from seedbed.plan.forecast import forecast

STUDIES = sorted((ROOT / "studies").rglob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: str(path.relative_to(path.parents[1])))
def test_a_study_can_be_planned(path: Path) -> None:
    plan = Plan(load(path))
    assert plan.studies
    assert all(name in forecast(plan) for name in plan.runs)
    assert str(path.relative_to(ROOT)) in path.read_text(encoding="utf-8").splitlines()[0]


def test_the_decay_study_shares_two_trunks() -> None:
    (path,) = [path for path in STUDIES if path.name == "wsd.yaml"]
    plan = Plan(load(path))
    assert [trunk.step for trunk in plan.trunks["tiny"].chain] == [280, 200]
    assert "(409,600 tokens) of tiny" in forecast(plan)
