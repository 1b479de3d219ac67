"""What a finished run leaves is read as it was written, or refused."""

import shutil
from pathlib import Path

import pytest
from support import change, leave_run

from seedbed.errors import SeedbedError
from seedbed.runs import costs, summary


@pytest.mark.parametrize("read", [summary, costs])
def test_the_summary_of_another_run_is_told(tmp_path: Path, read: object) -> None:
    mine, other = (leave_run(tmp_path / name, [], {}, steps=steps) for name, steps in (("mine", 4), ("other", 5)))
    assert read(mine)["steps"] == 4
    shutil.copyfile(other / "summary.json", mine / "summary.json")
    with pytest.raises(SeedbedError, match=f"{mine}/summary.json: damaged"):
        read(mine)


def test_a_summary_that_was_changed_with_its_checksum_is_told(tmp_path: Path) -> None:
    run = leave_run(tmp_path, [], {})
    change(run / "summary.json", loss=1.0)
    with pytest.raises(SeedbedError, match="summary.json: damaged"):
        summary(run)
