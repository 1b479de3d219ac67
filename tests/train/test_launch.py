"""The script as users start it: ranks under an agent, messages, signals."""

import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from forks import FORKS
from support import ROOT, inputs_of, spec_file
from training import MODEL, Runs, learned, run_rank, run_spec, store

from seedbed.errors import SeedbedError
from seedbed.runs import damage
from seedbed.train.execution import Execution
from seedbed.train.job import Job
from seedbed.train.launch import launch, placed, publish


@pytest.fixture
def command(tokens: Path, tokenizer: Path) -> Callable:
    def made(out: Path, spec: dict, *options: str) -> list[str]:
        script = [sys.executable, str(ROOT / "scripts" / "pretrain.py"), "--run", "small"]
        script += ["--spec", spec_file(out.parent, spec)]
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


def test_an_agent_adds_nothing_to_what_its_ranks_said(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    (tmp_path / "failing.py").write_text("raise SystemExit(1)")
    job = Job("small", run_spec(), tmp_path / "run", execution=Execution(processes=2))
    with pytest.raises(SystemExit):
        launch(job, [str(tmp_path / "failing.py")])
    assert "".join(capfd.readouterr()) == ""


def test_the_script_ends_with_one_line(command: Callable, tmp_path: Path) -> None:
    spec = run_spec(optimizer={"name": "muon"})
    done = subprocess.run(command(tmp_path / "run", spec, "--zero-stage", "1"), capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: zero_stage 1 cannot shard the state of muon")


@pytest.mark.parametrize(
    ("changes", "options", "told"),
    [
        ({"attention": "flash_attention_2"}, {}, "attention: flash_attention_2 needs a CUDA GPU"),
        ({"attention": "flex_attention"}, {}, "attention: flex_attention has no backward pass on a CPU"),
        ({}, {"processes": 3}, "nearest processes that do: 2 or 4"),
        ({"seq_len": 100_000, "batch_tokens": 100_000}, {}, "fewer than one window of seq_len 100000"),
        ({"optimizer": {"lr": 1e30}, "clip": None}, {}, "the loss is not finite at step"),
    ],
)
def test_a_mistake_ends_with_one_line(runs: Runs, tmp_path: Path, changes: dict, options: dict, told: str) -> None:
    messages = runs.fail(tmp_path / "run", run_spec(**changes), **options)
    (error,) = [line for line in messages.splitlines() if line.startswith("error: ")]
    assert told in error
    assert "Traceback" not in messages
    assert not (tmp_path / "run" / "summary.json").exists()


def with_little_memory(*rank: object) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (2**35, 2**35))
    run_rank(*rank)


def test_a_model_that_does_not_fit_is_told(runs: Runs, tmp_path: Path) -> None:
    spec = run_spec(model=MODEL | {"hidden_size": 2**17, "intermediate_size": 2**17})  # 64 GiB a matrix
    training = runs.start(tmp_path / "run", spec, target=with_little_memory).wait()
    assert not training.succeeded
    assert "small: out of memory: not even the model fits" in training.messages
    assert "Traceback" not in training.messages


def test_a_second_process_waits_for_the_first(runs: Runs, finished: Path, tmp_path: Path) -> None:
    job, logs = runs.job(tmp_path / "run", run_spec()), [tmp_path / "one.log", tmp_path / "other.log"]
    both = [FORKS.Process(target=run_rank, args=(job, 0, 1, 0, log)) for log in logs]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    assert sum("another process is training it" in log.read_text() for log in logs) == 1
    assert learned(job.out) == learned(finished)


@pytest.mark.parametrize("harm", ["gone", "a link to nothing"])
def test_what_tensorboard_shows_holds_up_no_result(runs: Runs, finished: Path, tmp_path: Path, harm: str) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    events = store(out) / "tensorboard"
    shutil.rmtree(events)
    if harm != "gone":
        events.mkdir()
        (events / "events").symlink_to("nowhere")
    (out / "run.json").unlink()
    told = []
    publish(replace(runs.job(out, run_spec()), report=told.append))
    assert told == [f"{events}: cannot be copied; left out"]
    assert damage(out) is None
