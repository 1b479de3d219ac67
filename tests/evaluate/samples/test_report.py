from pathlib import Path

import pytest
from example_study import example_study, page_of, table_of
from support import of_type

from seedbed.evaluate.samples.result import Result
from seedbed.report.results import StudyResults


def result() -> dict:
    figures = {"repetition": 0.875, "distinct_1": 0.5, "distinct_2": 0.5, "distinct_3": None}
    sample = {
        "prompt": "今天<script>",
        "continuation": "好&坏\n\n",
        "fits": True,
        "tokens": 9,
        "ended": True,
        **figures,
    }
    settings = [
        {"label": label, "decoding": "greedy", "samples": [sample], **figures} for label in ("greedy", "top-p <0.9>")
    ]
    return {"data": {}, "begin": {"id": 2, "token": "<eos>", "is": "eos"}, "settings": settings}


@pytest.fixture
def study(tmp_path: Path) -> StudyResults:
    return example_study(tmp_path, "samples", of_type(result(), Result))


def test_the_page_escapes_what_a_model_wrote(study: StudyResults) -> None:
    page = page_of(study)
    assert "<script>" not in page
    assert "今天&lt;script&gt;" in page
    assert "好&amp;坏↵↵</td>" in page
    assert "87.5% repeated" in page
    assert "top-p &lt;0.9&gt;" in page


def test_the_table_has_figures_of_each_setting(study: StudyResults) -> None:
    assert list(table_of(study)["measured.greedy.repetition"]) == [0.875] * 3
