"""Speeds of finished runs, as far as those are whole."""

from pathlib import Path

import pytest
from support import leave_run
from training import run_spec

from seedbed.plan.forecast import measured_speeds, speed_key


def test_a_run_has_the_speed_that_it_was_trained_with(tmp_path: Path) -> None:
    spec = run_spec()
    leave_run(tmp_path / "runs" / "a", [], spec, steps=4, seconds=2.0)
    assert measured_speeds(tmp_path) == {speed_key(spec): 4 * spec["batch_tokens"] / 2}


@pytest.mark.parametrize(
    ("changes", "summary"),
    [({"batch_tokens": "256"}, {}), ({"objective": "other"}, {}), ({"model": []}, {"seconds": 0})],
    ids=["type", "objective", "no time"],
)
def test_a_run_of_another_version_has_none(tmp_path: Path, changes: dict, summary: dict) -> None:
    leave_run(tmp_path / "runs" / "a", [], run_spec() | changes, **summary)
    assert measured_speeds(tmp_path) == {}
