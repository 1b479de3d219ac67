"""WSD runs that differ only in where they decay train their common steps once."""

from pathlib import Path

import pytest
from support import changed
from workflow_project import make_project

from seedbed.checksums import sha256
from seedbed.config.fields import without
from seedbed.files import read_json, read_jsonl

RATIOS = (0.5, 0.7, 0.9)


def model(results: Path, run: str) -> str:
    return sha256(results / "runs" / run / "model" / "model.safetensors")


def learned(results: Path, run: str) -> list[dict]:
    lines = read_jsonl(results / "runs" / run / "metrics.jsonl")
    return [without(line, "seconds", "tokens_per_second") for line in lines]


@pytest.fixture(scope="module")
def wsd(text_file: Path, tmp_path_factory: pytest.TempPathFactory):
    """The study of the segment-recurrent model's log: three runs, of which the first 90% are shared."""
    project = make_project(tmp_path_factory.mktemp("wsd") / "project", text_file)
    config = changed(project.config, "runs.tiny.budget", {"steps": 40})
    config = changed(config, "runs.tiny.schedule", {"kind": "wsd", "warmup_steps": 4, "stable_ratio": 0.9})
    config = changed(config, "studies.batch.vary", {"schedule.stable_ratio": list(RATIOS)})
    project.config = changed(config, "studies.batch.evaluate", [])
    project.config["studies"]["batch"]["plots"] = [{"kind": "loss"}]
    done = project.run("--cores", "2")
    assert done.returncode == 0, done.stdout
    return project


def test_three_runs_train_at_most_six_tenths_of_their_tokens(wsd) -> None:
    results = wsd.folder / "results"
    runs = [read_json(path) for path in results.glob("runs/tiny*/summary.json")]
    trunks = [read_json(path) for path in results.glob("trunks/*/*/summary.json")]
    assert (len(runs), len(trunks)) == (3, 2)
    alone, trained = sum(run["tokens"] for run in runs), sum(part["own_tokens"] for part in runs + trunks)
    assert trained <= 0.6 * alone
    text = (results / "studies" / "batch" / "report.html").read_text(encoding="utf-8")
    assert "share their first steps, which were trained once" in text


def test_they_equal_runs_of_their_own(wsd) -> None:
    """Without the others in the configuration, each is trained from its first step."""
    results = wsd.folder / "results"
    for ratio in RATIOS:
        config = changed(wsd.config, "studies", {})
        own = changed(wsd.config["runs"]["tiny"], "schedule.stable_ratio", ratio)
        config["runs"] = {f"own-{ratio}": own}
        done = wsd.run("--cores", "2", f"results/runs/own-{ratio}/summary.json", config=config)
        assert done.returncode == 0, done.stdout
        assert read_json(results / "runs" / f"own-{ratio}" / "summary.json")["own_tokens"] == 40 * 256
        name = "tiny" if ratio == 0.9 else f"tiny+schedule.stable_ratio={ratio}"
        assert model(results, name) == model(results, f"own-{ratio}")
        assert learned(results, name) == learned(results, f"own-{ratio}")


def test_nothing_is_left_to_do_and_execution_changes_nothing(wsd) -> None:
    assert wsd.planned() == {}
    assert wsd.planned("--set-resources", "pretrain_trunk:processes=1", "pretrain_trunk:zero_stage=1") == {}


def test_a_run_that_starts_from_a_step_of_another_gets_a_trunk_of_it(wsd) -> None:
    raw = wsd.config["runs"]["tiny"] | {"schedule": {"kind": "constant"}, "init": {"run": "tiny", "step": 10}}
    config = changed(wsd.config, "runs.branch", raw)
    assert wsd.planned("results/runs/branch/summary.json", config=config) == {"pretrain_trunk": 1, "pretrain": 1}
