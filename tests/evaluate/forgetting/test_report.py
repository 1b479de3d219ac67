from pathlib import Path

import pytest
from example_study import draw_plots, example_study, page_of, table_of
from support import of_type

from seedbed.evaluate.forgetting.result import Result
from seedbed.report.draw import draw
from seedbed.report.results import StudyResults

PLOTS = [{"kind": kind, "evaluation": "measured"} for kind in ("forgetting", "receptive-field")]


def distribution(mean: float) -> dict:
    return {"mean": mean, "sd": 0.1, "interval": [mean - 0.05, mean + 0.05]}


def result() -> dict:
    def at(length: int) -> dict:
        return {"length": length, "distance": length + 1, "prompt_tokens": 2 * length + 2}

    def point(length: int, copy: float, zone: str) -> dict:
        measured = {"copy": distribution(copy), "lm": distribution(0.2), "gain": distribution(copy - 0.2)}
        return {**at(length), "measurable": True, **measured, "p": 0.01, "zone": zone}

    points = [point(4, 0.995, "fine"), point(8, 0.5, "coarse"), {**at(99), "measurable": False}]
    curve = {"points": points, "zones": {"fine": 4, "coarse": 8, "effective": 9}}
    reach = {"trained_length": 32, "window": 24, "theoretical": 48}
    begin = {"id": 2, "token": "<eos>", "is": "eos"}
    return {"begin": begin, "task": "copy", "shots": 2, "reach": reach, "curves": {"order": curve, "random": curve}}


@pytest.fixture
def study(tmp_path: Path) -> StudyResults:
    return example_study(tmp_path, "forgetting", of_type(result(), Result), plots=PLOTS)


def test_the_forgetting_plot_shows_curves_and_marks(study: StudyResults) -> None:
    for axes in draw(study, PLOTS[0]).axes:
        copy, lm, *_ = axes.lines
        assert (list(copy.get_xdata()), list(copy.get_ydata())) == ([4, 8], [0.995, 0.5])
        assert list(lm.get_ydata()) == [0.2, 0.2]
        upright = [line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1]
        assert upright == [16, 32, 24]
    for axes in draw(study, PLOTS[1]).axes:
        assert list(axes.lines[0].get_xdata()) == [5, 9]
        assert list(axes.lines[0].get_ydata()) == pytest.approx([0.795, 0.3])
        assert [line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1] == [24, 48]


def test_models_are_in_the_plots(study: StudyResults) -> None:
    for path in draw_plots(study).glob("*.svg"):
        assert "qwen" in path.read_text(encoding="utf-8")


def test_the_page_tells_how_it_was_asked_and_what_could_not_be(study: StudyResults) -> None:
    page = page_of(study)
    assert "after 2 demonstrations with other pieces" in page
    assert "A piece begins with <code>&lt;eos&gt;</code>" in page
    assert "Not measurable, longer than the model's positions: lr 1, meaningful, length 99;" in page


def test_the_table_has_the_zones_of_each_text(study: StudyResults) -> None:
    table = table_of(study)
    assert list(table["measured.order.fine"]) == [4] * 3
    assert list(table["measured.random.effective"]) == [9] * 3


def test_a_study_may_have_models_only(study: StudyResults) -> None:
    alone = StudyResults(study.spec | {"variants": [], "plots": []}, study.results)
    (axes, _) = draw(alone, PLOTS[0]).axes
    assert [line.get_label() for line in axes.lines][:1] == ["qwen"]
    assert "validation loss" not in page_of(alone)
