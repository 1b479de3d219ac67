"""Jobs run unattended: nothing waits for an answer, and nobody's typing reaches a library."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

from support import ROOT, spec_file


def typed(command: list[str], keys: bytes) -> tuple[int, str]:
    """Exit status and output of a command in a terminal, where somebody has typed these keys."""
    ours, theirs = pty.openpty()
    os.write(ours, keys)
    process = subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT, text=True
    )
    os.close(theirs)
    try:
        out, _ = process.communicate(timeout=120)
    finally:
        process.kill()
        os.close(ours)
    return process.returncode, out


def test_a_question_fails_at_once_in_one_line(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from seedbed.cli import reporting\n"
        "with reporting(Path(sys.argv[1])):\n"
        "    assert not sys.stdin.isatty()\n"
        "    input()\n"
    )
    status, out = typed([sys.executable, "-c", code, str(tmp_path / "log")], b"y\n")
    assert (status, out) == (1, "error: a library asks a question; expected none, as jobs run unattended\n")
    assert (tmp_path / "log").read_text() == out


def test_processes_of_a_job_have_no_input_either() -> None:
    code = (
        "import subprocess, sys\n"
        "from seedbed.cli import reporting\n"
        "with reporting(None):\n"
        "    subprocess.run([sys.executable, '-c', 'import sys; print(repr(sys.stdin.read()))'], check=True)\n"
    )
    assert typed([sys.executable, "-c", code], b"y\n") == (0, "''\n")


def test_no_answer_runs_the_code_of_a_tokenizer(tokenizer: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "tokenizer.json").write_bytes((tokenizer / "tokenizer.json").read_bytes())
    own = {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": [None, "own.OwnTokenizer"]}}
    (source / "tokenizer_config.json").write_text(json.dumps(own))
    (source / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nOwnTokenizer = None\n")
    spec = spec_file(tmp_path, {"from": str(source), "revision": None, "eos_token": None})
    command = [sys.executable, "scripts/build_tokenizer.py", "--tokenizer", "own", "--spec", spec]
    status, out = typed([*command, "--out", str(tmp_path / "out")], b"y\n")
    assert status == 1
    (line,) = out.splitlines()
    told = "tokenizer_config.json: auto_map names code of its own ('own.OwnTokenizer'), which is never run; expected"
    assert line.startswith(f"error: tokenizer {source}: {told}")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


def test_a_key_that_a_spec_lacks_is_one_line(tmp_path: Path) -> None:
    spec = spec_file(tmp_path, {"sourc": {}})
    command = [sys.executable, "scripts/build_corpus.py", "--corpus", "c", "--spec", spec, "--out", f"{tmp_path}/out"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, f"error: {spec}: lacks the key 'source'; did you mean 'sourc'?\n")


def test_a_log_that_is_a_directory_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/build_corpus.py", "--corpus", "news", "--out", "x", "--log", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, f"error: {tmp_path}: is a directory; expected a file for the log\n")
