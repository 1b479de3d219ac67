from pathlib import Path

import pytest
from example_study import draw_plots, example_study, page_of, table_of
from support import of_type

from seedbed.evaluate.history.result import Result
from seedbed.report.draw import draw
from seedbed.report.results import StudyResults

PLOT = {"kind": "history", "evaluation": "measured"}


def result() -> dict:
    sides = {"with": {"loss": 3.25, "accuracy": 0.5}, "without": {"loss": 4.0, "accuracy": 0.25}}
    gain = {"loss": 0.75, "interval": [0.5, 1.0], "p": 0.0001, "accuracy": 0.25, "accuracy_interval": [0.1, 0.4]}
    positions = [{"from": first, "to": end, **sides, "gain": gain} for first, end in ((0, 1), (1, 2), (2, 4))]
    facts = {"length": 4, "history": 28, "pieces": 8, "overlapping": False}
    begin = {"id": 2, "token": "<eos>", "is": "eos"}
    return {**facts, "begin": begin, "overall": {**sides, "gain": gain}, "positions": positions}


@pytest.fixture
def study(tmp_path: Path) -> StudyResults:
    return example_study(tmp_path, "history", of_type(result(), Result), plots=[PLOT])


def test_the_history_plot_shows_both_losses_and_the_gain(study: StudyResults) -> None:
    losses, gains = draw(study, PLOT).axes
    assert list(losses.lines[0].get_xdata()) == [1, 2, 3.5]
    assert [line.get_ydata()[0] for line in losses.lines[:2]] == [3.25, 4.0]
    assert list(gains.lines[0].get_ydata()) == [0.25] * 3
    assert "qwen" in (draw_plots(study) / "history-measured.svg").read_text(encoding="utf-8")


def test_page_and_table_have_the_gain(study: StudyResults) -> None:
    assert page_of(study).count("<td>0.750</td><td>0.500 to 1.000</td>") == 3
    assert list(table_of(study)["measured.gain"]) == [0.75] * 3
