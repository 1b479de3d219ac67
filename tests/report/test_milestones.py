from pathlib import Path

import pytest
from example_study import RUNS, counting_samples, example_study

from seedbed.report.milestones import milestones_page
from seedbed.report.results import StudyResults
from seedbed.report.table import study_rows


@pytest.fixture
def study(tmp_path: Path) -> StudyResults:
    return example_study(tmp_path)


def test_milestones_come_newest_first(study: StudyResults) -> None:
    table = study_rows(study)
    older, newer = study.spec | {"date": "2025-01-01", "title": "Older"}, study.spec | {"title": "Newer <i>"}
    page = milestones_page([(older, table), (newer, table)])
    assert page.index("Newer &lt;i&gt;") < page.index("Older")
    assert "<th>tokens</th>" in page and "<td>a</td><td>40</td>" in page
    assert "<td>qwen</td>" not in page


def test_a_study_may_have_models_only(study: StudyResults) -> None:
    alone = StudyResults(study.spec | {"variants": []}, study.results)
    table = study_rows(alone)
    assert [row["run"] for row in table] == ["qwen"]
    page = milestones_page([(alone.spec, table)])
    assert "Models measured: <code>qwen</code>" in page
    assert "validation loss" not in page


def test_runs_are_counted_in_their_own_units(study: StudyResults) -> None:
    page = milestones_page([(study.spec, study_rows(counting_samples(study, *RUNS)))])
    assert "<th>samples</th><th>validation loss</th><th>samples/s</th>" in page
    assert "<td>a</td><td>4</td>" in page
    page = milestones_page([(study.spec, study_rows(counting_samples(example_study(study.results), "a")))])
    assert "<th>samples or tokens</th>" in page
    assert "<td>a</td><td>4 samples</td>" in page and "<td>40 tokens</td>" in page
