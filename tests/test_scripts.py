"""Each script runs by itself, explains itself, and loads nothing heavy before it has to."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
HEAVY = {"torch", "transformers", "deepspeed", "datasets", "matplotlib", "pandas", "pyarrow"}


def run(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_help_tells_every_option(script: Path) -> None:
    done = run(str(script), "--help")
    assert done.returncode == 0, done.stderr
    assert ast.get_docstring(ast.parse(script.read_text())).split(":")[0] in done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_nothing_heavy_is_loaded_at_the_start(script: Path) -> None:
    code = (
        f"import runpy, sys; runpy.run_path({str(script)!r}, run_name='imported'); print(*{HEAVY!r} & set(sys.modules))"
    )
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_a_name_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    options = (
        "--run",
        "tinny",
        "--input",
        "tokens=x",
        "--out",
        str(tmp_path),
        "--log",
        str(tmp_path / "log"),
    )
    done = run("scripts/pretrain.py", *options)
    assert done.returncode == 1
    assert done.stderr == "error: config.yaml: no run is called 'tinny'; did you mean 'tiny'?\n"
    assert (tmp_path / "log").read_text() == done.stderr


def test_a_stage_runs_from_a_configuration_file_alone(text_file: Path, tmp_path: Path) -> None:
    config = tmp_path / "own.yaml"
    config.write_text(f"corpora: {{own: {{source: {{files: {text_file}}}, split: {{valid: 0.1, test: 0.1}}}}}}\n")
    done = run("scripts/build_corpus.py", "--corpus", "own", "--config", str(config), "--out", str(tmp_path / "own"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "own" / "stats.json").exists()


def test_a_missing_input_is_one_line(tmp_path: Path) -> None:
    done = run("scripts/build_tokens.py", "--corpus", "absent", "--tokenizer", "absent", "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    assert done.stderr == "error: absent/tokenizer.json: no such file\n"


def test_a_source_that_is_not_downloaded_yet_is_one_line(tmp_path: Path) -> None:
    done = run("scripts/build_corpus.py", "--corpus", "news", "--out", str(tmp_path / "news"))
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: corpus news: its source is downloaded first: give FILE of `python scripts/dow"
    )
    assert len(done.stderr.splitlines()) == 1


def test_an_empty_split_is_told_with_its_key_and_share(text_file: Path, tmp_path: Path) -> None:
    config = tmp_path / "own.yaml"
    config.write_text(f"corpora: {{own: {{source: {{files: {text_file}}}, split: {{valid: 0.00001}}}}}}\n")
    done = run("scripts/build_corpus.py", "--corpus", "own", "--config", str(config), "--out", str(tmp_path / "own"))
    assert done.stderr.splitlines() == [
        "error: corpora.own.split.valid: the valid split got none of 300 documents; "
        "its share is 1e-05: raise it or use a larger corpus"
    ]


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (
            ["scripts/pretrain.py", "--run", "tiny"],
            "input 'tokenizer' is missing; found none, expected --input",
        ),
        (["scripts/pretrain.py", "--run", "tiny", "--input", "tokens=absent"], "absent: no such file or directory"),
        (["scripts/build_tokenizer.py", "--tokenizer", "news-4k"], "tokenizer: found no corpus to train it on"),
        (["scripts/build_corpus.py", "--corpus", "news", "--spec", "absent"], "absent: no such file"),
        (["scripts/build_corpus.py", "--corpus", "news", "--spec", "x" * 5000], "xxxxx"),
        (["scripts/build_corpus.py", "--corpus", "news", "--spec", "scripts"], "scripts: found no regular file"),
        (["scripts/build_corpus.py", "--corpus", "news", "--spec", "LICENSE"], "LICENSE: not valid JSON"),
        (
            ["scripts/render_milestones.py", "--results", ".", "--specs", "tests/train/golden.json"],
            "tests/train/golden.json: found {",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_a_stage_lacks_is_one_line(command: list[str], told: str, tmp_path: Path) -> None:
    done = run(*command, "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "error: " in line]
    assert line.startswith(f"error: {told}")
    assert len(line) <= 400
    assert "Traceback" not in done.stderr


def test_a_spec_of_another_kind_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text("[1]")
    done = run("scripts/build_corpus.py", "--corpus", "c", "--spec", f"{tmp_path}/spec.json", "--out", str(tmp_path))
    assert done.stderr == f"error: {tmp_path}/spec.json: found [1], expected a mapping as JSON\n"
