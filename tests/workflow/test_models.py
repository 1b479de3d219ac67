"""Models that were trained elsewhere, measured by the real workflow."""

import shutil
from pathlib import Path

import pandas as pd
from support import changed, contents
from workflow_project import Project

STUDY = {
    "date": "2026-01-03",
    "title": "Elsewhere",
    "models": ["other"],
    "evaluate": ["forgetting", "history", "questions"],
    "plots": [{"kind": "history", "evaluation": "history"}],
}


def configured(config: dict) -> dict:
    config = changed(config, "models.other", {"from": "source/other"})
    for name in ("forgetting", "history"):
        config = changed(config, f"evaluations.{name}.corpus", "news")
    return changed(config, "studies.elsewhere", STUDY)


def test_a_model_from_a_directory_is_measured_as_the_run_that_made_it(finished_project, tmp_path: Path) -> None:
    folder, config = tmp_path / "project", configured(finished_project.config)
    shutil.copytree(finished_project.folder, folder)  # others want theirs as it is
    project = Project(folder, config)
    shutil.copytree(folder / "results" / "runs" / "tiny" / "model", folder / "source" / "other")
    # Naming the corpus that runs are measured on anyway measures no run again.
    jobs = {"fetch_model": 1, "build_tokenizer": 1, "build_tokens": 1, "evaluate": 3, "render_table": 1}
    pages = {"render_plots": 1, "render_study": 1, "render_milestones": 1}
    assert project.planned() == jobs | pages
    done = project.run("--cores", "2")
    assert done.returncode == 0, done.stdout
    evaluations = folder / "results" / "evaluations"
    for name in STUDY["evaluate"]:
        own, other = (contents(evaluations / subject / f"{name}.json") for subject in ("tiny", "other"))
        for different in ("model", "data", "seconds"):
            own.pop(different), other.pop(different)
        if name == "questions":  # nobody knows what it was trained on
            assert own.pop("contamination")["asked"] == 60
            assert other.pop("contamination") is None
        assert own == other
        rows = [pd.read_csv(evaluations / subject / f"{name}.tsv", sep="\t") for subject in ("tiny", "other")]
        pd.testing.assert_frame_equal(*(table.drop(columns="in_training", errors="ignore") for table in rows))
    page = (folder / "results" / "studies" / "elsewhere" / "report.html").read_text(encoding="utf-8")
    assert "Trained elsewhere and measured as it is: <code>other</code>" in page
    assert project.planned() == {}
    (folder / "source" / "other" / "generation_config.json").write_text("{}")
    assert project.planned()["fetch_model"] == 1


def test_a_directory_without_a_model_ends_with_one_line(project) -> None:
    config = configured(project.config)
    (project.folder / "source" / "other").mkdir()
    done = project.run("--cores", "1", "results/models/other", config=config)
    assert done.returncode == 1
    assert "error: model source/other: has no weights as *.safetensors" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (project.folder / "results" / "models" / "other").exists()


def test_an_id_may_be_longer_than_the_name_of_a_file(project) -> None:
    config = changed(configured(project.config), "models.other", {"from": "x" * 300})
    assert project.planned("results/models/other", config=config) == {"fetch_model": 1}
