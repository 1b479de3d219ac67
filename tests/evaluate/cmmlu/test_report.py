from pathlib import Path

import pytest
from example_study import draw_plots, example_study, page_of, table_of
from support import of_type

from seedbed.evaluate.cmmlu.result import Result
from seedbed.report.results import StudyResults

PLOT = {"kind": "cmmlu", "evaluation": "measured"}


def result() -> dict:
    summary = {"questions": 60, "micro": 0.5, "interval": [0.3, 0.7], "macro": 0.55, "macro_interval": [0.4, 0.6]}
    counts = {"shots_dropped": 3, "prompts_without_all_shots": 2, "prompts_cut": 0}
    groups = {
        "categories": {"STEM": summary},
        "subjects": {"anatomy": {"questions": 60, "accuracy": 0.5, "interval": [0.3, 0.7]}},
    }
    scores = {
        **summary,
        **counts,
        **groups,
        "accuracy_norm": 0.5,
        "margin": 0.1,
        "answered": {"A": 0.75, "B": 0.25, "C": 0, "D": 0},
        "not_in_training": summary | {"micro": 0.475},
    }
    note = {"rule": "20 characters", "asked": 60, "contaminated": 7, "too_short": 1, "corpora": []}
    facts = {
        "data": {},
        "prompts_begin_with": [],
        "intervals": "95%",
        "window": 32,
        "convention": "cmmlu",
        "demonstration": True,
        "missing_subjects": [],
        "questions": 60,
        "chance": 0.25,
        "baselines": {"always_A": 0.25, "longest_option": 0.3},
    }
    return {**facts, "contamination": note, "shots": {"0": scores, "5": scores}}


@pytest.fixture
def study(tmp_path: Path) -> StudyResults:
    return example_study(tmp_path, "cmmlu", of_type(result(), Result), plots=[PLOT])


def test_the_page_tells_answers_chance_and_contamination(study: StudyResults) -> None:
    page = page_of(study)
    assert "<td>75/25/0/0%</td>" in page
    assert "demonstration set" in page
    svg = (draw_plots(study) / "cmmlu-measured.svg").read_text(encoding="utf-8")
    assert "demonstration set" in svg and "qwen" in svg
    assert "lr 1 7, lr &lt;x&gt; 7, qwen 7" in page
    assert "where 20 characters are; 1 of the 60 questions are too short to tell" in page
    assert page.count("<td>47.5%</td>") == 6
    assert page.count("<td>above</td>") == 6


def test_the_table_has_the_scores_of_each_number_of_shots(study: StudyResults) -> None:
    table = table_of(study)
    assert list(table["measured.5-shot.low"]) == [0.3] * 3
    assert list(table["measured.0-shot.STEM"]) == [0.55] * 3
