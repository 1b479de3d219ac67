"""Paths with characters that a shell, YAML or Snakemake reads as its own: they work, or are one line when planned."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support import ROOT, changed
from workflow_project import Project, make_project

from seedbed.files import read_json

ODD = """a b'$HOME "c" ;&#(%20),\\中"""
STAGES = ("results/tokens/news/small/index.json", "results/tokenizers/other/stats.json")
TASK = "def odd(x, lengths):\n    return x\n"
THINKER = {
    "objective": "thinker",
    "task": {"python": f"{ODD}/my tasks.py:odd", "symbols": 4},
    "length": 4,
    "n_latent": 2,
    "n_step": 1,
    "batch": 8,
    "budget": {"steps": 2},
    "model": {"hidden_size": 8, "num_attention_heads": 2},
    "validation": {"every": 2, "samples": 8},
}


def configured(config: dict) -> dict:
    """What the configuration names lies in a folder with an odd name."""
    config = changed(config, "corpora.news.source.files", f"{ODD}/texts.jsonl")
    config = changed(config, "tokenizers.other", {"from": ODD})
    questions = {"kind": "cmmlu", "source": {"files": f"{ODD}/questions"}, "shots": [0]}
    config = changed(config, "evaluations.questions", questions)
    return changed(config, "runs.odd", THINKER)


@pytest.fixture
def odd(text_file: Path, tokenizer: Path, tmp_path: Path) -> Project:
    """A clone in a folder with an odd name, in which another one has what is read."""
    (tmp_path / ODD).mkdir()
    project = make_project(tmp_path / ODD / "seedbed", text_file)
    folder = project.folder / ODD
    shutil.move(project.folder / "source", folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder)
    shutil.copytree(ROOT / "seedbed" / "evaluate" / "cmmlu" / "demonstration", folder / "questions")
    (folder / "my tasks.py").write_text(TASK)
    project.config = configured(project.config)
    return project


def test_a_clone_in_a_folder_with_an_odd_name(odd: Project) -> None:
    targets = (*STAGES, "results/contamination/questions/news.json", "results/runs/odd/summary.json")
    done = odd.run("--cores", "1", "--", *targets)
    assert done.returncode == 0, done.stdout
    assert read_json(odd.folder / "results" / "runs" / "odd" / "run.json")["inputs"]["task"]
    assert (odd.folder / targets[2]).exists()


def test_from_another_folder_with_an_odd_name_by_an_odd_configuration(odd: Project, tmp_path: Path) -> None:
    folder = tmp_path / f"{ODD} 2"
    shutil.copytree(odd.folder / ODD, folder / ODD)
    (folder / f"{ODD}.yaml").write_text(yaml.safe_dump(odd.config), encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "-s", f"{odd.folder}/Snakefile", "--cores", "1"]
    command += ["--configfile", f"{ODD}.yaml", "--", *STAGES]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (folder / STAGES[0]).exists()


@pytest.mark.parametrize("name", ["a:b", "a{b", "{a}"])
def test_a_clone_where_it_cannot_work_is_told(text_file: Path, tmp_path: Path, name: str) -> None:
    project = make_project(tmp_path / name, text_file)
    done = project.run("-n")
    assert done.returncode == 1
    told = f"error: {project.folder}: Seedbed lies here; expected a path without colons and braces"
    assert done.stdout.splitlines()[-1] == told
    assert "Traceback" not in done.stdout


def test_a_file_that_snakemake_would_take_for_a_pattern_is_told(project: Project) -> None:
    shutil.move(project.folder / "source" / "texts.jsonl", project.folder / "source" / "{x}.jsonl")
    config = changed(project.config, "corpora.news.source.files", "source/*.jsonl")
    done = project.run("-n", config=config)
    assert done.returncode == 1
    told = "error: source/{x}.jsonl: Snakemake takes what is in braces for a wildcard; expected a path without"
    assert done.stdout.splitlines()[-1] == told


def test_other_braces_are_read(project: Project) -> None:
    shutil.move(project.folder / "source" / "texts.jsonl", project.folder / "source" / "}a b{.jsonl")
    config = changed(project.config, "corpora.news.source.files", "source/}a b{.jsonl")
    done = project.run("--cores", "1", "--", "results/corpora/news/stats.json", config=config)
    assert done.returncode == 0, done.stdout
