"""The script as users start it: ranks under an agent, messages, signals."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import ROOT, inputs_of
from training import MODEL, learned, run_spec, store

from seedbed.errors import SeedbedError
from seedbed.files import read_json
from seedbed.train.execution import Execution
from seedbed.train.job import Job
from seedbed.train.launch import placed


@pytest.fixture
def command(tokens: Path, tokenizer: Path) -> Callable:
    def made(out: Path, spec: dict, *options: str) -> list[str]:
        script = [sys.executable, str(ROOT / "scripts" / "pretrain.py"), "--run", "small", "--spec", json.dumps(spec)]
        paths = ["--out", str(out), "--log", str(out) + ".log"]
        paths += [f"--input={name}={path}" for name, path in inputs_of(tokens, tokenizer).items()]
        return [*script, *paths, "--threads", "2", *options]

    return made


@pytest.mark.parametrize(("gpus", "sequences", "chosen"), [(0, 8, 1), (4, 8, 4), (4, 6, 3), (8, 5, 5), (1, 8, 1)])
def test_processes_are_chosen_by_devices_to_divide_the_batch(
    gpus: int, sequences: int, chosen: int, monkeypatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    spec = run_spec(batch_tokens=32 * sequences)
    job = Job("small", spec, Path("run"), execution=Execution(processes=0, threads=2))
    assert placed(job).processes == chosen


def test_more_processes_than_gpus_are_refused(monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(SeedbedError, match="processes: found 4, expected at most the 2 visible GPUs"):
        placed(Job("small", run_spec(), Path("run"), execution=Execution(processes=4)))


def test_two_ranks_under_the_agent_train_as_one(command: Callable, finished: Path, tmp_path: Path) -> None:
    subprocess.run(command(tmp_path / "run", run_spec(), "--processes", "2"), check=True, capture_output=True)
    assert read_json(tmp_path / "run" / "summary.json")["devices"] == 2
    for one, two in zip(learned(finished), learned(tmp_path / "run"), strict=True):
        assert one == pytest.approx(two, rel=1e-3)


def test_a_signal_to_the_agent_of_two_ranks_saves_first(command: Callable, tmp_path: Path) -> None:
    out, spec = tmp_path / "stopped", run_spec(budget={"steps": 2000})
    process = subprocess.Popen(command(out, spec, "--processes", "2"), stderr=subprocess.PIPE, text=True)
    while not list(out.glob("checkpoints/*/metrics.jsonl")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "the same command resumes it" in told
    assert "Traceback" not in told
    assert list(store(out).glob("step-*"))


def test_a_model_that_does_not_fit_is_told(command: Callable, tmp_path: Path) -> None:
    spec = run_spec(model=MODEL | {"hidden_size": 2**17, "intermediate_size": 2**17})  # 64 GiB a matrix
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (2**35, 2**35))  # noqa: E731
    done = subprocess.run(command(tmp_path / "run", spec), capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 1
    assert "small: out of memory: not even the model fits" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("changes", "options", "told"),
    [
        ({"optimizer": {"name": "muon"}}, ("--zero-stage", "1"), "zero_stage 1 cannot shard the state of muon"),
        ({"attention": "flash_attention_2"}, (), "attention: flash_attention_2 needs a CUDA GPU"),
        ({"attention": "flex_attention"}, (), "attention: flex_attention has no backward pass on a CPU"),
        ({}, ("--processes", "3"), "nearest processes that do: 2 or 4"),
        ({"seq_len": 100_000, "batch_tokens": 100_000}, (), "fewer than one window of seq_len 100000"),
        ({"optimizer": {"lr": 1e30}, "clip": None}, (), "the loss is not finite at step"),
    ],
)
def test_a_mistake_ends_with_one_line(
    command: Callable, tmp_path: Path, changes: dict, options: tuple, told: str
) -> None:
    done = subprocess.run(command(tmp_path / "run", run_spec(**changes), *options), capture_output=True, text=True)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if "error: " in line]
    assert len(errors) == 1
    assert told in errors[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "summary.json").exists()


def test_a_second_process_waits_for_the_first(command: Callable, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    both = [
        subprocess.Popen(command(out, run_spec()), stderr=subprocess.PIPE, text=True, env=os.environ) for _ in range(2)
    ]
    told = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("another process is training it" in text for text in told) == 1
    assert learned(out) == learned(finished)
