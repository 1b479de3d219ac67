"""What a stage reads of the configuration reaches it by a file, whatever its size, and only when a job really runs."""

import json
from pathlib import Path

import pytest
from support import changed, leave_run

from seedbed.config.fields import format_count
from seedbed.files import sha256_of, write_json
from seedbed.records import write_record
from seedbed.report.table import Table

LONG = "长注" * 100_000  # 600 kB of UTF-8; bash takes 128 KiB in one argument
STUDY = {"date": "2026-01-02", "title": "T", "base": "tiny"}
STATS, TOKENIZER = "results/corpora/news/stats.json", "results/tokenizers/small/tokenizer.json"


def kept(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in (folder / "results" / "specs").glob("*")}


def run_of_a_rule(project, rule: str, target: str, config: dict) -> None:
    """Run one rule of which the inputs are there."""
    done = project.run("--cores", "1", "--allowed-rules", rule, "--", target, config=config)
    assert done.returncode == 0, done.stdout
    assert f"1 jobs\n[1/1] {'Writing' if rule == 'render_milestones' else 'Tabulating'}" in done.stdout


def test_91_studies_with_long_notes(project) -> None:
    studies = {f"s{number}": STUDY | {"notes": f"{number} {LONG[:4000]}"} for number in range(90)}
    studies["longest"] = STUDY | {"notes": LONG}
    for name in studies:
        row = {"run": "a", "tokens": 1, "loss": 1.0}
        table = {"study": name, "rows": [row]}
        write_record(project.folder / "results" / "studies" / name / "table.json", Table, table)
    run_of_a_rule(project, "render_milestones", "results/milestones.html", changed(project.config, "studies", studies))
    page = (project.folder / "results" / "milestones.html").read_text(encoding="utf-8")
    assert all(f"studies/{name}/report.html" in page for name in studies)
    assert LONG in page
    ((name, text),) = kept(project.folder).items()
    assert len(json.loads(text)) == 91
    assert name == f"studies-{sha256_of(json.loads(text))[:16]}.json"


def test_a_study_of_1500_seeds(project) -> None:
    study = STUDY | {"vary": {"seed": list(range(1500))}}
    config = changed(project.config, "studies", {"seeds": study})
    runs = ["tiny", *(f"tiny+seed={format_count(seed)}" for seed in range(1, 1500))]
    for run in runs:
        leave_run(project.folder / "results" / "runs" / run, [], {})
    run_of_a_rule(project, "render_table", "results/studies/seeds/table.tsv", config)
    table = (project.folder / "results" / "studies" / "seeds" / "table.tsv").read_text(encoding="utf-8")
    assert [line.split("\t")[0] for line in table.splitlines()[1:]] == runs


PLANS = [("-n",), ("-n", "--forceall"), ("--summary",), ("--dag",), ("--lint",), ("--touch",), ("--rulegraph",)]


@pytest.mark.parametrize("options", PLANS, ids=" ".join)
def test_what_only_plans_writes_no_spec(project, options: tuple) -> None:
    write_json(project.folder / STATS, {})
    assert project.run("--cores", "1", *options).returncode == 0
    assert kept(project.folder) == {}


def test_a_job_of_a_cluster_writes_its_own(project) -> None:
    """It is a Snakemake process of its own, which runs no `onstart`."""
    options = ("--target-jobs", "build_corpus:corpus=news", "--allowed-rules", "build_corpus", "--cores", "1")
    done = project.run(*options, "--mode", "remote", "--force", "--no-hooks", "--nolock")
    assert done.returncode == 0, done.stdout
    assert [name.partition("-")[0] for name in kept(project.folder)] == ["corpus"]
    assert (project.folder / STATS).exists()


def test_a_damaged_file_is_written_again(project) -> None:
    assert project.run("--cores", "1", "--", STATS).returncode == 0
    (before,) = kept(project.folder).items()
    (project.folder / "results" / "specs" / before[0]).write_bytes(b"\xff")
    assert project.planned("--", STATS) == {}
    assert project.run("--cores", "1", "--forcerun", "build_corpus", "--", STATS).returncode == 0
    assert kept(project.folder) == dict([before])


def test_a_job_that_is_planned_keeps_what_it_was_planned_with(project) -> None:
    """The first job changes the configuration; the second one is as it was planned."""
    source = changed(project.config, "tokenizers.small.vocab_size", 310)
    project.config["custom_rules"] = ["edit.smk"]
    rule = "rule edit:\n    output: 'source/edited.jsonl'\n    shell: 'mv other.yaml test.yaml; cp {0} {{output}}'\n"
    (project.folder / "edit.smk").write_text(rule.format("source/texts.jsonl"))
    write_json(project.folder / "other.yaml", source)
    config = changed(project.config, "corpora.news.source.files", "source/edited.jsonl")
    (project.folder / "source" / "edited.jsonl").write_text("")
    done = project.run("--cores", "1", "--forcerun", "edit", "--", TOKENIZER, config=config)
    assert done.returncode == 0, done.stdout
    assert json.loads((project.folder / "test.yaml").read_text()) == source
    assert len(json.loads((project.folder / TOKENIZER).read_text(encoding="utf-8"))["model"]["vocab"]) == 300


def test_specs_that_cannot_be_written_are_one_line(project) -> None:
    (project.folder / "results" / "specs").touch()
    done = project.run("--cores", "1", "--", STATS)
    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines() if "specs" in line] == ["error: results/specs: File exists"]
    assert "Traceback" not in done.stdout
