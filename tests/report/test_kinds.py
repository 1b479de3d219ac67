from pathlib import Path

import pytest

from seedbed.errors import SeedbedError
from seedbed.evaluate import EVALUATIONS
from seedbed.report.kinds import part_of, report_module, report_of


@pytest.mark.parametrize("kind", EVALUATIONS)
def test_a_kind_draws_the_plots_that_its_config_names(kind: str) -> None:
    assert tuple(report_of(kind).plots) == EVALUATIONS[kind].plots
    assert part_of(kind, "page.html").is_file()


def test_a_kind_that_shows_nothing_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "of_mine").mkdir()
    monkeypatch.setitem(EVALUATIONS.places, "mine", "of_mine.config:Mine")
    with pytest.raises(
        SeedbedError, match=r"^evaluations of kind 'mine': \S+of_mine/report.py not found; expected"
    ) as caught:
        report_module("mine")
    assert "\n" not in str(caught.value)
    (tmp_path / "of_mine" / "report.py").touch()
    assert report_module("mine") == "of_mine.report"
    with pytest.raises(SeedbedError, match="of_mine/page.html not found"):
        part_of("mine", "page.html")
