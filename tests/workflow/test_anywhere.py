"""The workflow runs in any directory: code is found beside the Snakefile, data and results in the working directory."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support import ROOT
from workflow_project import CONFIG

STATS = "results/corpora/news/stats.json"

OUTER = f"""
module seedbed:
    snakefile: "{ROOT}/Snakefile"
    config: config

use rule * from seedbed as seedbed_*

rule mine:
    default_target: True
    input: "{STATS}"
    output: "mine.json"
    shell: "cp {{input}} {{output}}"
"""


@pytest.fixture
def mine(text_file: Path, tmp_path: Path) -> Path:
    """A directory of one's own: a configuration and the file that it names, nothing of Seedbed's."""
    folder = tmp_path / "mine"
    (folder / "source").mkdir(parents=True)
    (folder / "source" / "texts.jsonl").hardlink_to(text_file)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    return folder


def snakemake(folder: Path, *options: str) -> str:
    """What a workflow that succeeds says."""
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *options]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_in_a_directory_of_ones_own(mine: Path) -> None:
    said = snakemake(mine, "-s", f"{ROOT}/Snakefile", "results/tokenizers/small/tokenizer.json")
    lines = [line for line in said.splitlines() if not line.startswith("Using ")]
    assert lines[:3] == [
        "2 jobs",
        "[1/2] Cleaning, shuffling and splitting the corpus news",
        "[2/2] Building the tokenizer small",
    ]
    assert len(lines) == 4 and lines[3].startswith("done in ")
    assert (mine / "results" / "tokenizers" / "small" / "tokenizer.json").exists()
    assert "Nothing to be done" in snakemake(mine, "-s", f"{ROOT}/Snakefile", "-n", STATS)


def test_for_another_directory_with_a_configuration_from_elsewhere(mine: Path, tmp_path: Path) -> None:
    config = (mine / "config.yaml").rename(tmp_path / "other.yaml")
    options = ("-s", f"{ROOT}/Snakefile", "--directory", str(mine), "--configfile", config.name)
    snakemake(tmp_path, *options, "--", STATS)
    assert (mine / STATS).exists()


def test_as_a_module_of_another_workflow(mine: Path) -> None:
    (mine / "Snakefile").write_text('configfile: "config.yaml"\n' + OUTER, encoding="utf-8")
    snakemake(mine)
    assert (mine / "mine.json").read_text() == (mine / STATS).read_text()
    assert "seedbed_pretrain" in snakemake(mine, "-n", "seedbed_all")


def test_without_a_configuration_it_is_the_one_that_comes_with_seedbed(tmp_path: Path) -> None:
    said = snakemake(tmp_path, "-s", f"{ROOT}/Snakefile", "-n", "results/corpora/news/stats.json")
    assert "Cleaning, shuffling and splitting the corpus news" in said
    assert list(tmp_path.glob("results")) == []


def test_a_missing_file_is_told_with_the_directory_it_is_looked_for_in(mine: Path) -> None:
    (mine / "source" / "texts.jsonl").unlink()
    command = [sys.executable, "-m", "snakemake", "-s", f"{ROOT}/Snakefile", "-n", STATS]
    done = subprocess.run(command, cwd=mine, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("Using ")]
    assert line.startswith("error: corpora.news.source: source/texts.jsonl: no such file")
    assert line.endswith(f"(relative to {mine})")
