"""The whole chain under the real Snakemake, on two DeepSpeed ranks."""

import os
import random
import re
import signal
import subprocess
import time
from html.parser import HTMLParser
from multiprocessing.process import BaseProcess
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from seedbed.checksums import sha256
from seedbed.files import read_json, read_jsonl


@pytest.fixture(scope="session")
def results(finished_project) -> Path:
    return finished_project.folder / "results"


RUNS = ("tiny", "tiny+batch_tokens=512")


def test_every_contract_is_kept(results: Path) -> None:
    expected = [
        "corpora/news/stats.json",
        "tokenizers/small/tokenizer.json",
        "tokenizers/small/stats.json",
        "tokens/news/small/index.json",
        "contamination/questions/news.json",
        "studies/batch/table.tsv",
        "studies/batch/report.html",
        "milestones.html",
    ]
    for run in RUNS:
        expected += [
            f"runs/{run}/{name}" for name in ("run.json", "metrics.jsonl", "summary.json", "model/config.json")
        ]
        evaluations = ("perplexity", "forgetting", "history", "questions", "samples")
        expected += [f"evaluations/{run}/{name}.{end}" for name in evaluations for end in ("json", "tsv")]
    assert [name for name in expected if not (results / name).is_file()] == []
    assert not [path for path in results.rglob("*.partial")]


def test_two_ranks_trained(results: Path) -> None:
    for run in RUNS:
        summary = read_json(results / "runs" / run / "summary.json")
        assert summary["devices"] == 2
        assert summary["tokens"] == 8192
        lines = read_jsonl(results / "runs" / run / "metrics.jsonl")
        assert lines[-1]["loss"] < lines[0]["loss"]


def test_models_load_and_speak(results: Path) -> None:
    folder = results / "runs" / "tiny" / "model"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        assert model(**tokenizer("今天", return_tensors="pt", return_token_type_ids=False)).logits.shape[-1] == 300
    assert "8,192 tokens" in (folder / "README.md").read_text(encoding="utf-8")


def test_the_table_has_the_figures_of_the_files(results: Path) -> None:
    table = pd.read_csv(results / "studies" / "batch" / "table.tsv", sep="\t")
    assert list(table["run"]) == list(RUNS)
    assert list(table["batch_tokens"]) == [256, 512]
    for _, row in table.iterrows():
        assert row["valid_loss"] == pytest.approx(
            read_json(results / "runs" / row["run"] / "summary.json")["valid_loss"]
        )
        scores = read_json(results / "evaluations" / row["run"] / "perplexity.json")["splits"]["test"]
        assert row["perplexity.test.perplexity"] == pytest.approx(scores["perplexity"])


class Page(HTMLParser):
    """Collects the addresses a page would load or link to, and checks that its tags nest."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads, self.links, self.open = [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list) -> None:
        found = dict(attributes)
        self.loads += [found[key] for key in ("src", "data") if key in found and tag != "g"]
        self.links += [found["href"]] if tag == "a" else []
        self.loads += [found["href"]] if tag == "link" else []
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_pages_are_whole_and_load_nothing(results: Path) -> None:
    study = Page(results / "studies" / "batch" / "report.html")
    index = Page(results / "milestones.html")
    assert study.loads == index.loads == []
    assert study.open == index.open == []
    assert "studies/batch/report.html" in index.links
    for page, folder in ((study, results / "studies" / "batch"), (index, results)):
        assert all((folder / link).resolve().is_file() for link in page.links)


def test_text_is_shown_escaped(results: Path) -> None:
    for page in (results / "studies" / "batch" / "report.html", results / "milestones.html"):
        text = page.read_text(encoding="utf-8")
        assert "批量 &lt;b&gt;Batch&lt;/b&gt;" in text
        assert "<b>Batch" not in text
        assert "<p>Two &amp; three.</p>" in text


def test_the_report_shows_what_was_measured(results: Path) -> None:
    text = (results / "studies" / "batch" / "report.html").read_text(encoding="utf-8")
    assert text.count("<svg") == 7
    assert "demonstration set" in text
    perplexity = read_json(results / "evaluations" / "tiny" / "perplexity.json")["splits"]["valid"]
    assert f"{perplexity['loss']:.3f}" in text
    assert f"{perplexity['unigram_loss']:.3f}" in text
    sample = read_json(results / "evaluations" / "tiny" / "samples.json")["settings"][0]["samples"][0]
    assert f'<span class="prompt">{sample["prompt"]}</span>' in text
    assert read_json(results / "runs" / "tiny" / "run.json")["identity"][:16] in text


def test_nothing_is_left_to_do(finished_project) -> None:
    assert finished_project.planned() == {}


def test_a_dry_run_prints_the_facts_of_each_run(finished_project) -> None:
    text = finished_project.run("-n").stdout
    parameters = read_json(finished_project.folder / "results" / "runs" / "tiny" / "summary.json")["parameters"]
    assert re.search(
        rf"^tiny +{parameters:,} +8,192 tokens +32 +256 +0\.01 +\S+ +0 MiB +0\.\d min$", text, re.MULTILINE
    ), text


def test_another_configuration_stands_alone(finished_project, tmp_path: Path) -> None:
    """Nothing of config.yaml leaks in, and every path lies under the results directory given."""
    done = finished_project.run(
        "--cores", "2", "--config", f"results={tmp_path / 'elsewhere'}", "--until", "build_tokenizer"
    )
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "elsewhere" / "tokenizers" / "small" / "tokenizer.json").exists()
    summary = finished_project.run("--summary", "--cores", "1", "--config", f"results={tmp_path / 'elsewhere'}").stdout
    files = [line.split("\t")[0] for line in summary.splitlines() if "\t" in line][1:]
    assert len(files) > 20
    assert all(file.startswith(str(tmp_path / "elsewhere")) for file in files)
    assert "news-4k" not in summary


def test_snakemakes_own_report_is_made(finished_project) -> None:
    done = finished_project.run("--report", "own.html")
    assert done.returncode == 0, done.stdout
    assert (finished_project.folder / "own.html").stat().st_size > 100_000


# --- killing ---------------------------------------------------------------------------------------------------------


def test_a_killed_workflow_is_resumed_by_the_same_command(project) -> None:
    """Here everything, every script too, is started as users start it."""
    project.config["runs"]["tiny"] |= {"budget": {"steps": 400}, "log_every": 1}
    project.config["studies"]["batch"] |= {"vary": {}, "evaluate": ["questions"], "plots": [{"kind": "loss"}]}
    project.write()
    options = ("--cores", "2", "--set-resources", "pretrain:checkpoint_seconds=1")
    log = (project.folder / "first.log").open("w")
    first = subprocess.Popen(
        project.command(*options), cwd=project.folder, stdout=log, stderr=log, start_new_session=True
    )
    run = project.folder / "results" / "runs" / "tiny"
    while not list(run.glob("checkpoints/*/step-*")):
        assert first.poll() is None
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not (run / "summary.json").exists()
    done = subprocess.run(project.command(*options), cwd=project.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "resumes at step" in done.stdout + done.stderr
    assert [line["step"] for line in read_jsonl(run / "metrics.jsonl")] == list(range(1, 401))
    assert project.planned() == {}


def test_a_job_killed_at_twenty_random_moments_is_retried_to_the_same_end(project) -> None:
    """Snakemake starts it again each time; losses and weights are those of a run that nothing disturbed."""
    settings = {"budget": {"steps": 300}, "log_every": 1, "validation": {"every": 50, "tokens": 64}}
    run = project.config["runs"]["tiny"] | settings
    project.config |= {"studies": {}, "runs": {"whole": run}}
    options = ("--cores", "2", "--set-resources", "pretrain:checkpoint_steps=1", "--set-threads", "pretrain=1")
    done = project.run(*options)
    assert done.returncode == 0, done.stdout
    project.write(project.config | {"runs": {"killed": run}})
    log, generator, jobs = project.folder / "killed.log", random.Random(0), set()
    results = project.folder / "results" / "runs"
    workflow = project.start(log, *options, "--retries", "20")
    for attempt in range(20):
        job = running_job(workflow, "--run killed", jobs)
        if attempt % 4:
            wait_for_a_step_more(results / "killed", workflow)
            time.sleep(generator.uniform(0, 0.1))  # in a step, or while a checkpoint is written
        else:
            time.sleep(generator.uniform(0, 0.5))  # while it starts
        os.kill(job, signal.SIGUSR1 if attempt % 5 == 4 else signal.SIGKILL)  # preempted, or killed
        jobs.add(job)
    workflow.join(120)
    assert workflow.exitcode == 0, log.read_text()
    assert log.read_text().count("Trying to restart job") == 20
    lines, undisturbed = (read_jsonl(results / run / "metrics.jsonl") for run in ("killed", "whole"))
    assert [line["loss"] for line in lines] == [line["loss"] for line in undisturbed]
    assert [line["step"] for line in lines] == list(range(1, 301))
    assert weights(results / "killed") == weights(results / "whole")


def running_job(workflow: BaseProcess, part: str, before: set[int]) -> int:
    """The training whose command line has this part, none of those before; waits for it while the workflow runs."""
    for _ in range(2400):
        for folder in Path("/proc").glob("[0-9]*"):
            if int(folder.name) in before:
                continue
            try:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if part in command and "scripts/pretrain.py" in command and not command.startswith(("/bin/", "/usr/bin/")):
                return int(folder.name)
        assert workflow.is_alive()
        time.sleep(0.02)
    raise AssertionError("the job does not start")


def weights(run: Path) -> str:
    return sha256(run / "model" / "model.safetensors")


def wait_for_a_step_more(run: Path, workflow: BaseProcess) -> None:
    """Until the training has written a checkpoint that was not there before."""
    before = set(run.glob("checkpoints/*/step-*"))
    for _ in range(2400):
        if set(run.glob("checkpoints/*/step-*")) - before:
            return
        assert workflow.is_alive()
        time.sleep(0.02)
    raise AssertionError("no checkpoint comes")


def test_two_workflows_do_not_write_to_one_directory(project) -> None:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    first = subprocess.Popen(project.command("--cores", "1"), cwd=project.folder, start_new_session=True, **quiet)
    while not (project.folder / "results" / "corpora").exists():
        assert first.poll() is None
        time.sleep(0.05)
    done = project.run("--cores", "1")
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert done.returncode == 1
    assert "error: results: another workflow is writing there" in done.stdout
    assert "Traceback" not in done.stdout


def test_jobs_find_the_same_python_where_no_environment_is_activated(project) -> None:
    hidden = ("VIRTUAL_ENV", "PYTHONPATH")
    environment = {key: value for key, value in os.environ.items() if key not in hidden} | {"PATH": "/usr/bin:/bin"}
    command = project.command("--cores", "1", "results/corpora/news/stats.json")
    done = subprocess.run(command, cwd=project.folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
