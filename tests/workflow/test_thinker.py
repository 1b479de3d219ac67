"""Thinkers under the real workflow: a task of the user's own, more compute later, a study to its report."""

import json
import re
from copy import deepcopy
from pathlib import Path

import pandas as pd
import pytest
from support import ROOT, changed
from workflow_project import Project, make_project

from seedbed.files import read_json

RUN = {
    "objective": "thinker",
    "task": {"python": "my_tasks.py:reverse_pairs", "symbols": 4},
    "length": 6,
    "curriculum": {"kind": "progressive", "first": 2, "threshold": 0.3, "window": 2},
    "model": {"hidden_size": 8, "num_attention_heads": 2, "position_range": 8, "max_latent": 4},
    "n_latent": 2,
    "n_step": {"first": 1, "last": 2},
    "batch": 32,
    "budget": {"steps": 16},
    "optimizer": {"lr": 0.02},
    "validation": {"every": 4, "samples": 64},
    "log_every": 4,
}
ADD = RUN | {"task": {"name": "addition", "base": 4, "width": "variable"}, "length": 3, "curriculum": {"kind": "fixed"}}
CONFIG = {
    "results": "results",
    "runs": {
        "pairs": RUN,
        "more": RUN | {"init": {"run": "pairs"}, "n_latent": [2, 4], "n_step": 4},
        "add": ADD,
    },
    "evaluations": {"accuracy": {"kind": "task-accuracy", "lengths": [3, 6, 8], "samples": 32, "timed": 1}},
    "studies": {
        "compute": {
            "date": "2026-01-05",
            "title": "Compute",
            "runs": ["pairs", "more"],
            "evaluate": ["accuracy"],
            "plots": [{"kind": kind, "evaluation": "accuracy"} for kind in ("task-grid", "task-length", "task-steps")],
        }
    },
}
PAGES = {"render_table": 1, "render_plots": 1, "render_study": 1, "render_milestones": 1}


def blocks(language: str) -> list[str]:
    """The code blocks of the README in this language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def of_readme(part: str) -> str:
    (found,) = [block for block in blocks("python") if part in block]
    return found


@pytest.fixture(scope="module")
def thinking(text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A study whose task is the README's, run on two ranks."""
    project = make_project(tmp_path_factory.mktemp("thinker") / "project", text_file)
    project.config = deepcopy(CONFIG)
    (project.folder / "my_tasks.py").write_text(of_readme("def reverse_pairs"), encoding="utf-8")
    expected = {"pretrain": 3, "evaluate": 2, **PAGES}
    assert project.planned() == expected
    done = project.run("--cores", "2", "--set-resources", "pretrain:processes=2")
    assert done.returncode == 0, done.stdout
    return project


def test_every_contract_is_kept(thinking: Project) -> None:
    results = thinking.folder / "results"
    for run in CONFIG["runs"]:
        model = results / "runs" / run / "model"
        files = {path.name for path in model.glob("[!.]*")}
        assert files == {"config.json", "model.safetensors", "README.md"} | ({"task.py"} if run != "add" else set())
        summary = read_json(results / "runs" / run / "summary.json")
        assert (summary["unit"], summary["samples"], summary["epochs"]) == ("samples", 512, None)
    spec = read_json(results / "runs" / "pairs" / "run.json")
    assert list(spec["inputs"]) == ["task"]
    assert thinking.planned() == {}


def test_the_report_has_every_run_and_plot(thinking: Project) -> None:
    study = thinking.folder / "results" / "studies" / "compute"
    page = (study / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 3
    found = read_json(thinking.folder / "results" / "evaluations" / "more" / "accuracy.json")
    table = pd.read_csv(study / "table.tsv", sep="\t")
    assert list(table["run"]) == ["pairs", "more"]
    assert [one["length"] for one in found["claim"]] == [3, 6, 8]
    assert table["accuracy.accuracy.8"][1] == pytest.approx(found["claim"][2]["token"]["mean"])


def test_a_changed_task_trains_again(thinking: Project) -> None:
    file = thinking.folder / "my_tasks.py"
    text = file.read_text(encoding="utf-8")
    try:
        file.write_text(text.replace("^ 1", "^ 0"), encoding="utf-8")
        assert thinking.planned() == {"pretrain": 2, "evaluate": 2, **PAGES}
    finally:
        file.write_text(text, encoding="utf-8")


KEYS = [
    ("evaluations.accuracy.samples", 33, {"evaluate": 2, **PAGES}),
    ("studies.compute.plots", [], {"render_plots": 1, "render_study": 1}),
    ("runs.more.n_step", 3, {"pretrain": 1, "evaluate": 1, **PAGES}),
    ("runs.add.task.base", 5, {"pretrain": 1}),
]


@pytest.mark.parametrize(("path", "value", "expected"), KEYS, ids=[path for path, _, _ in KEYS])
def test_a_changed_key_reruns_what_reads_it(thinking: Project, path: str, value: object, expected: dict) -> None:
    assert thinking.planned(config=changed(thinking.config, path, value)) == expected


def test_a_task_that_fails_is_one_line_before_anything_runs(thinking: Project) -> None:
    (thinking.folder / "bad_tasks.py").write_text("def bad(x, lengths):\n    return x[:, 1:]\n", encoding="utf-8")
    config = changed(thinking.config, "runs.pairs.task.python", "bad_tasks.py:bad")
    done = thinking.run("-n", config=config)
    assert done.returncode
    assert done.stdout.splitlines()[-1].startswith("error: config: runs.pairs.task.python: ")
    assert "Traceback" not in done.stdout


def test_the_answer_of_the_readme(thinking: Project, capsys: pytest.CaptureFixture) -> None:
    model = str(thinking.folder / "results" / "runs" / "pairs" / "model")
    code = of_readme("thinker = load").replace("results/runs/thinker/model", model)
    exec(code.replace('"copy", [3, 1, 4, 1, 5, 9, 2, 6], n_latent=8', '"reverse_pairs", [3, 1, 0, 1, 2], n_latent=4'))
    answer = json.loads(capsys.readouterr().out)
    assert len(answer) == 5 and set(answer) <= {0, 1, 2, 3}


def test_the_readme_of_a_model_says_how_to_use_it(thinking: Project, capsys: pytest.CaptureFixture) -> None:
    for run in ("pairs", "add"):
        model = thinking.folder / "results" / "runs" / run / "model"
        card = (model / "README.md").read_text(encoding="utf-8")
        (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
        exec(code.replace("<this directory>", str(model)))
        assert isinstance(json.loads(capsys.readouterr().out), list)
