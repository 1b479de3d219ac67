"""A report shows the evaluations of its own runs and models, and no others."""

from pathlib import Path

import pytest
from example_study import example_study
from support import change

from seedbed.checksums import described_files
from seedbed.config.fields import without
from seedbed.errors import SeedbedError
from seedbed.files import write_text
from seedbed.records import write_record
from seedbed.report.results import StudyResults
from seedbed.runs import ADOPTED, Adopted

NOTHING = {"data": {}, "begin": {"id": 2, "token": "<eos>", "is": "eos"}, "settings": []}


@pytest.fixture
def study(tmp_path: Path) -> StudyResults:
    """The run `a` and the external model qwen with files of their own."""
    made = example_study(tmp_path, "samples", NOTHING)
    run, model = tmp_path / "runs" / "a", tmp_path / "models" / "qwen"
    write_text(run / "model" / "config.json", "mine")
    write_text(model / "config.json", "elsewhere")
    change(run / "run.json", files=without(described_files(run), "run.json"))
    write_record(model / ADOPTED, Adopted, {"source": "x", "revision": None, "files": described_files(model)})
    return made


@pytest.mark.parametrize("subject", ["a", "qwen"])
def test_an_evaluation_of_another_model_is_told(study: StudyResults, subject: str) -> None:
    path = study.results / "evaluations" / subject / "measured.json"
    assert study.evaluation(subject, "measured")["settings"] == []
    change(path, model={"path": "elsewhere", "sha256": {"config.json": "0" * 64}})
    with pytest.raises(SeedbedError, match=f"{path}: measured another model than {study.results}/.*/{subject}"):
        study.evaluation(subject, "measured")


def test_another_evaluation_in_its_place_is_told(study: StudyResults) -> None:
    path = study.results / "evaluations" / "a" / "measured.json"
    change(path, evaluation="other")
    with pytest.raises(SeedbedError, match=f"{path}: is the evaluation 'other'; expected 'measured'"):
        study.evaluation("a", "measured")
