"""In-context autoencoders under the real workflow: on a run of ours, and on a model that was trained elsewhere."""

import shutil
from copy import deepcopy
from pathlib import Path

import pandas as pd
import pytest
from support import changed
from workflow_project import Project, make_project

from seedbed.files import read_json, read_jsonl

RUN = {
    "objective": "icae",
    "contexts": "long",
    "tokenizer": "small",
    "model": "micro",
    "init": {"run": "tiny"},
    "seq_len": 16,
    "continuation": 8,
    "leave_tokens_for_lm": 2,
    "memory_tokens": 4,
    "layout": "spread",
    "lora": {"r": 4, "alpha": 8},
    "budget": {"steps": 6},
    "batch_tokens": 128,
    "optimizer": {"lr": 0.01},
    "validation": {"every": 3, "tokens": 128},
    "log_every": 2,
}
FOREIGN = {"model": "other", "tokenizer": "other", "init": None, "layout": "default"}
STUDY = {
    "date": "2026-01-04",
    "title": "Memory",
    "runs": ["icae", "foreign"],
    "evaluate": ["reconstruction"],
    "plots": [
        {"kind": "reconstruction", "evaluation": "reconstruction"},
        {"kind": "compression", "evaluation": "reconstruction"},
    ],
}
PAGES = {"render_table": 1, "render_plots": 1, "render_study": 1, "render_milestones": 1}
MEASURE = {"evaluate": 2, **PAGES}


def configured(config: dict) -> dict:
    made = changed(config, "contexts", {"long": {"corpus": "news", "min_chars": 100, "held_out": 20}})
    made = changed(made, "models.other", {"from": "source/other"})
    made["runs"] |= deepcopy({"icae": RUN}) | deepcopy({"foreign": RUN | FOREIGN})
    measured = {"kind": "reconstruction", "lengths": [16, 24], "samples": 8, "generated": 4, "shown": 1}
    made["evaluations"] = {"reconstruction": measured}
    return made | {"studies": {"memory": STUDY}}


@pytest.fixture(scope="module")
def compressing(text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A base of two kinds, trained here and brought from elsewhere, and what a study makes of both."""
    project = make_project(tmp_path_factory.mktemp("icae") / "project", text_file)
    done = project.run("--cores", "2", "results/runs/tiny/summary.json")
    assert done.returncode == 0, done.stdout
    shutil.copytree(project.folder / "results" / "runs" / "tiny" / "model", project.folder / "source" / "other")
    project.config = configured(project.config)
    expected = {"fetch_model": 1, "build_tokenizer": 1, "build_contexts": 2, "pretrain": 2, **MEASURE}
    assert project.planned() == expected
    done = project.run("--cores", "2", "--set-resources", "pretrain:processes=2", "pretrain:zero_stage=2")
    assert done.returncode == 0, done.stdout
    return project


def test_every_contract_is_kept(compressing: Project) -> None:
    results = compressing.folder / "results"
    for run, tokenizer in (("icae", "small"), ("foreign", "other")):
        assert (results / "contexts" / "long" / tokenizer / "index.json").is_file()
        model = results / "runs" / run / "model"
        for name in ("icae.json", "memory.safetensors", "encoder/adapter_config.json", "tokenizer.json", "README.md"):
            assert (model / name).is_file()
        assert not (model / "encoder" / "model.safetensors").exists()
        summary = read_json(results / "runs" / run / "summary.json")
        assert 0 < summary["trained_parameters"] < summary["parameters"] / 5
        assert [line["step"] for line in read_jsonl(results / "runs" / run / "metrics.jsonl")] == [2, 3, 4, 6]
        assert read_json(results / "evaluations" / run / "reconstruction.json")["settings"][1]["length"] == 24
    assert compressing.planned() == {}


def test_the_base_may_come_from_elsewhere(compressing: Project) -> None:
    results = compressing.folder / "results"
    paths = {run: read_json(results / "runs" / run / "model" / "icae.json")["base"]["path"] for run in STUDY["runs"]}
    assert paths == {"icae": "../../tiny/model", "foreign": "../../../models/other"}


def test_the_report_shows_originals_and_what_came_of_them(compressing: Project) -> None:
    study = compressing.folder / "results" / "studies" / "memory"
    page = (study / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    found = read_json(compressing.folder / "results" / "evaluations" / "icae" / "reconstruction.json")["settings"][0]
    assert f"{found['ae']['none']['loss']:.3f}" in page
    assert f"({found['gain']['none']['interval'][0]:.2f} to" in page
    table = pd.read_csv(study / "table.tsv", sep="\t")
    assert list(table["run"]) == ["icae", "foreign"]
    column = "reconstruction.held-out-16-rate-4.ae_loss.memory"
    assert table[column][0] == pytest.approx(found["ae"]["memory"]["loss"])


KEYS = [
    ("evaluations.reconstruction.samples", 9, MEASURE),
    ("studies.memory.plots", STUDY["plots"][:1], {"render_plots": 1, "render_study": 1}),
    ("runs.icae.layout", "uniform", {"pretrain": 1, "evaluate": 1, **PAGES}),
    ("runs.icae.lora.targets", "all-linear", {"pretrain": 1, "evaluate": 1, **PAGES}),
    ("contexts.long.held_out", 21, {"build_contexts": 2, "pretrain": 2, **MEASURE}),
]


@pytest.mark.parametrize(("path", "value", "expected"), KEYS, ids=[path for path, _, _ in KEYS])
def test_a_changed_key_reruns_what_reads_it(compressing: Project, path: str, value: object, expected: dict) -> None:
    assert compressing.planned(config=changed(compressing.config, path, value)) == expected


def test_how_it_is_computed_reruns_nothing(compressing: Project) -> None:
    options = ("pretrain:processes=1", "pretrain:micro_batch=1", "pretrain:gradient_checkpointing=1")
    assert compressing.planned("--set-resources", *options) == {}


def test_contexts_that_are_not_long_enough_are_told_with_the_numbers(compressing: Project) -> None:
    config = changed(compressing.config, "contexts.long", {"corpus": "news", "min_chars": 400, "held_out": 20})
    done = compressing.run("--cores", "1", "results/contexts/long/small/index.json", config=config)
    (line,) = {line for line in done.stdout.splitlines() if line.startswith("error: ")}
    assert "min_chars 400" in line and "held_out" in line
    assert "Traceback" not in done.stdout


def test_documents_that_leave_no_context_are_told_with_the_numbers(compressing: Project) -> None:
    config = changed(compressing.config, "runs.far", RUN | {"continuation": 10_000})
    done = compressing.run("--cores", "1", "results/runs/far/summary.json", config=config)
    (line,) = {line for line in done.stdout.splitlines() if line.startswith("error: ")}
    assert "no document is long enough" in line and "at least 10016" in line
    assert "Traceback" not in done.stdout


def test_the_readme_of_a_model_says_how_to_use_it(compressing: Project, capsys: pytest.CaptureFixture) -> None:
    folder: Path = compressing.folder / "results" / "runs" / "icae" / "model"
    text = (folder / "README.md").read_text(encoding="utf-8")
    snippet = text[text.index("```python") + 9 : text.index("```", text.index("```python") + 9)]
    exec(snippet.replace("<this directory>", str(folder)).replace("some text", "今天记者报道中国经济发展"), {})
    assert capsys.readouterr().out.strip()
