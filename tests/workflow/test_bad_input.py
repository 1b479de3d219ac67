"""A mistake ends the workflow with one line, before any job if the configuration tells it; nothing is half written."""

import gzip
import subprocess
from pathlib import Path

import pytest
from support import changed
from workflow_project import CONFIG

from seedbed.config.load import check
from seedbed.errors import SeedbedError
from seedbed.plan import Plan

TINY = "runs.tiny"

CONFIGURATION = {
    "unknown key": (
        f"{TINY}.batch_token",
        5,
        "config: runs.tiny.batch_token: unknown key; did you mean 'batch_tokens'?",
    ),
    "wrong type": (f"{TINY}.seq_len", "long", "config: runs.tiny.seq_len: expected a whole number"),
    "undefined reference": (
        f"{TINY}.corpus",
        "new",
        "config: runs.tiny.corpus: no corpus is called 'new'; did you mean 'news'?",
    ),
    "cyclic init": (f"{TINY}.init", {"run": "tiny"}, "config: runs.tiny.init: cyclic: tiny -> tiny"),
    "indivisible batch": (f"{TINY}.batch_tokens", 100, "nearest that do: 96 or 128"),
    "missing trunk step": (
        "runs.branch",
        CONFIG["runs"]["tiny"] | {"init": {"run": "tiny", "step": 33}},
        "config: runs.branch.init.step: 'tiny' has 32 steps; found 33",
    ),
    "segments that do not divide": (
        f"{TINY}.recurrence",
        {"work_size": 5, "cache_size": 8},
        "recurrence: work_size x stop_gradient_step, 5, does not divide seq_len 32; nearest that do: 2 or 4",
    ),
    "unknown optimizer": (
        f"{TINY}.optimizer",
        {"name": "adamx"},
        "optimizer.name: found 'adamx'; did you mean 'adam'?",
    ),
    "unknown backend": (f"{TINY}.attention", "spda", "runs.tiny.attention: found 'spda'; did you mean 'sdpa'?"),
    "name with a slash": ("runs.a", None, "config: runs.a/b: a name has letters, digits"),
}


def mistaken(config: dict, mistake: str) -> tuple[dict, str]:
    """The configuration with a mistake, and what is told of it."""
    path, value, told = CONFIGURATION[mistake]
    made = changed(config, path, value)
    if mistake == "name with a slash":
        made["runs"] = {"a/b": made["runs"]["tiny"]}
    return made, told


@pytest.mark.parametrize("mistake", CONFIGURATION)
def test_a_wrong_configuration_is_told_in_one_line(mistake: str) -> None:
    config, told = mistaken(CONFIG, mistake)
    with pytest.raises(SeedbedError) as error:
        Plan(check(config))
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("mistake", "options"), [("unknown key", ("-n",)), ("cyclic init", ("--cores", "1"))], ids=str)
def test_the_workflow_ends_with_that_line_before_any_job(project, mistake: str, options: tuple) -> None:
    config, told = mistaken(project.config, mistake)
    project.write(config)
    done = subprocess.run(project.command(*options), cwd=project.folder, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("Using ")]
    assert line.startswith("error: ")
    assert told in line
    assert [path.name for path in (project.folder / "results").rglob("*.*")] == ["models.json"]


def source(project, name: str, content: bytes) -> dict:
    (project.folder / "source" / name).write_bytes(content)
    return changed(project.config, "corpora.news.source", {"files": f"source/{name}"})


def package(project, **changes: str) -> dict:
    fields = {"package": "absent-package-of-seedbed==1.0", "sha256": "0" * 64, "member": "*.txt"} | changes
    return changed(project.config, "corpora.news.source", fields)


DATA = {
    "empty after cleaning": (
        lambda project: changed(project.config, "corpora.news.min_chars", 10**6),
        "the corpus is empty after cleaning: 300 documents read, 300 shorter than min_chars 1000000",
    ),
    "not UTF-8": (
        lambda project: source(project, "bad.txt", "好\n".encode() + b"\xff"),
        "source/bad.txt: line 2: not UTF-8 (byte 0xff)",
    ),
    "truncated": (
        lambda project: source(project, "cut.jsonl.gz", gzip.compress(b'{"text": "x"}\n' * 1000)[:-9]),
        "source/cut.jsonl.gz: truncated or damaged",
    ),
    "no such file": (
        lambda project: changed(project.config, "corpora.news.source", {"files": "source/none/*.txt"}),
        "source/none/*.txt: no such file",
    ),
    "no network": (package, "cannot download absent-package-of-seedbed==1.0 (is there a network?)"),
    "wrong sha256": (
        lambda project: changed(
            project.config,
            "corpora.news.source",
            {"url": (project.folder / "source" / "texts.jsonl").as_uri(), "sha256": "0" * 64},
        ),
        "texts.jsonl: wrong sha256: found",
    ),
    "vocabulary too large": (
        lambda project: changed(project.config, "tokenizers.small.vocab_size", 50_000),
        "vocab_size 50000 is larger than the text supports: expected at most",
    ),
}


@pytest.mark.parametrize("mistake", DATA)
def test_bad_data_ends_its_stage_with_one_line(project, monkeypatch: pytest.MonkeyPatch, mistake: str) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    prepare, told = DATA[mistake]
    done = project.run("--cores", "1", config=prepare(project))
    assert done.returncode == 1
    assert len({line for line in done.stdout.splitlines() if line.startswith("error: ")}) == 1, done.stdout
    assert told in done.stdout
    assert "Traceback" not in done.stdout
    assert left_over(project.folder / "results") == []


def left_over(results: Path) -> list[Path]:
    """Files of stages that did not finish."""
    hidden = [path for path in results.rglob(".*") if path.name not in (".lock", ".snakemake_timestamp")]
    stages = {"corpora": "stats.json", "tokenizers": "stats.json", "tokens": "index.json"}
    for stage, last in stages.items():
        hidden += [
            folder for folder in results.glob(f"{stage}/*") if list(folder.iterdir()) and not list(folder.rglob(last))
        ]
    return hidden


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rule x:\n    input 'a'\n", "Colon expected after keyword input."),
        ("x = 1 +\n", "invalid syntax in 'x = 1 +'"),
        ("x = ((\n", "EOF in multi-line statement"),
    ],
)
def test_custom_rules_that_are_none_are_one_line(project, text: str, told: str) -> None:
    (project.folder / "my.smk").write_text(text)
    done = project.run("-n", config=project.config | {"custom_rules": ["my.smk"]})
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == f"error: config: custom_rules: my.smk: {told}"
    assert "Traceback" not in done.stdout


def test_modules_of_the_working_directory_take_no_others_place(project) -> None:
    for name in ("gzip", "numpy", "queue"):
        (project.folder / f"{name}.py").write_text(f"raise SystemExit('{name} of the working directory')\n")
    done = project.run("--cores", "1", "results/corpora/news/stats.json")
    assert done.returncode == 0, done.stdout
