"""What is asked for: all that a study shows by default; what cannot be had is one line with the nearest name."""

import subprocess
import sys

import pytest
from support import ROOT, changed

sys.path.append(str(ROOT / "workflow" / "rules"))

import resources as job_resources

from seedbed.errors import SeedbedError

TARGETS = {
    "run": ("results/runs/tiny2/summary.json", "no run is called 'tiny2'; did you mean 'tiny'?"),
    "corpus behind tokens": ("results/tokens/nws/small/index.json", "no corpus is called 'nws'; did you mean 'news'?"),
    "study": ("results/studies/bach/table.tsv", "no study is called 'bach'; did you mean 'batch'?"),
    "evaluation of another kind": (
        "results/evaluations/tiny/reconstruction.json",
        "config: evaluations.reconstruction: ",  # and what seedbed/plan/check.py says
    ),
    "path": (
        "results/rnus/tiny/summary.json",
        "no rule is called or makes 'results/rnus/tiny/summary.json'; did you mean 'results/runs/tiny/summary.json'?",
    ),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_a_target_that_does_not_exist_is_one_line(project, kind: str) -> None:
    target, told = TARGETS[kind]
    contexts = {"corpus": "news", "min_chars": 100, "held_out": 20}
    config = changed(project.config, "contexts", {"long": contexts})
    config["evaluations"]["reconstruction"] = {"kind": "reconstruction", "contexts": "long"}
    project.write(config)
    done = subprocess.run(project.command("-n", target), cwd=project.folder, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("Using ")]
    assert line.startswith(f"error: {told}")


SHOWN = [
    ("evaluations/tiny/history.tsv", "evaluate"),
    ("studies/batch/plots", "render_plots"),
    ("runs/tiny/metrics.jsonl", "pretrain"),
]


@pytest.mark.parametrize(("path", "rule"), SHOWN, ids=[path for path, _ in SHOWN])
def test_what_a_study_shows_is_made_again_when_it_is_gone(finished_project, path: str, rule: str) -> None:
    shown = finished_project.folder / "results" / path
    aside = shown.rename(finished_project.folder / "aside")
    try:
        assert finished_project.planned()[rule] == 1
    finally:
        aside.rename(shown)
    assert shown.exists()


# --- resources -------------------------------------------------------------------------------------------------------

IMPOSSIBLE = {
    "pretrain:zero_stag=2": "set-resources: pretrain has no resource 'zero_stag'; did you mean 'zero_stage'?",
    "pretrain:zero_stage=7": "resources of pretrain: zero_stage: found 7, expected 0, 1, 2 or 3",
}


@pytest.mark.parametrize("setting", IMPOSSIBLE)
def test_resources_that_no_training_can_have_are_told_before_any_job(project, setting: str) -> None:
    command = project.command("-n", "--set-resources", setting)
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True)
    assert done.returncode == 1
    found = [line for line in done.stderr.splitlines() if not line.startswith("Using ")]
    assert found == [f"error: {IMPOSSIBLE[setting]}"]


@pytest.mark.parametrize("name", ["mem", "mem_mb", "runtime", "gpu", "slurm_extra", "nodes", "tasks", "mpi", "io"])
def test_resources_of_snakemake_and_of_a_limit_are_known(name: str) -> None:
    job_resources.check_names({"pretrain": [name, "zero_stage"]}, ["pretrain"], shared=["io"])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"pretain": ["processes"]}, "no rule is called 'pretain'; did you mean 'pretrain'?"),
        ({"evaluate": ["batch_token"]}, "evaluate has no resource 'batch_token'; did you mean 'batch_tokens'?"),
        ({"build_tokens": ["zero_stage"]}, "build_tokens has no resource 'zero_stage'; none is defined"),
    ],
)
def test_a_resource_that_nobody_reads_is_told(given: dict, told: str) -> None:
    with pytest.raises(SeedbedError, match=told.replace("?", r"\?")):
        job_resources.check_names(given, ["pretrain", "evaluate", "build_tokens"], shared=[])


def test_offload_needs_zero() -> None:
    job_resources.check_execution("pretrain", {"offload": "cpu", "zero_stage": 2})
    with pytest.raises(SeedbedError, match="resources of pretrain: offload cpu needs ZeRO"):
        job_resources.check_execution("pretrain", {"offload": "cpu", "zero_stage": 0})
