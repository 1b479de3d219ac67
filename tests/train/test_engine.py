"""Real runs of the engine, each a process of its own as users start it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from seedbed.config import Run
from seedbed.files import read_json, read_jsonl, sha256
from seedbed.objectives.lm import LanguageModelling
from seedbed.plan import dump, training_spec, without
from seedbed.train.metrics import whole_lines
from seedbed.train.state import load_weights

ROOT = Path(__file__).parents[2]
MODEL = {
    "family": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
STEPS = 12


def run_spec(**changes: object) -> dict:
    fields = {
        "corpus": "news",
        "tokenizer": "small",
        "model": MODEL,
        "seq_len": 32,
        "budget": {"steps": STEPS},
        "batch_tokens": 256,
        "precision": "fp32",
        "optimizer": {"lr": 1e-2},
        "validation": {"every": 5, "tokens": 1000},
        "log_every": 1,
    }
    return training_spec(dump(Run.model_validate(fields | changes)))


@pytest.fixture
def command(tokens: Path, tokenizer: Path) -> Callable:
    def made(out: Path, spec: dict, *options: str) -> list[str]:
        script = [sys.executable, str(ROOT / "scripts" / "pretrain.py"), "--run", "small", "--spec", json.dumps(spec)]
        paths = ["--tokens", str(tokens), "--tokenizer", str(tokenizer), "--out", str(out), "--log", str(out) + ".log"]
        return [*script, *paths, "--threads", "2", *options]

    return made


@pytest.fixture
def train(command: Callable) -> Callable:
    """Train to the end and return the directory of the run."""

    def trained(out: Path, spec: dict, *options: str) -> Path:
        done = subprocess.run(command(out, spec, *options), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return out

    return trained


def learned(out: Path) -> list[dict]:
    """The metrics of a run without what depends on the clock."""
    return [without(line, "seconds", "tokens_per_second") for line in read_jsonl(out / "metrics.jsonl")]


def weights(out: Path) -> str:
    return sha256(out / "model" / "model.safetensors")


def store(out: Path) -> Path:
    (found,) = (out / "checkpoints").iterdir()
    return found


def kill_after(process: subprocess.Popen, out: Path, step: int, number: int) -> None:
    """Signal a training process once it has logged a step."""
    for _ in range(6000):
        lines = list(out.glob("checkpoints/*/metrics.jsonl"))
        if lines and len(lines[0].read_text().splitlines()) >= step:
            break
        assert process.poll() is None, "it ended before it could be stopped"
        time.sleep(0.01)
    process.send_signal(number)
    process.wait(60)


@pytest.fixture(scope="module")
def finished(tokens: Path, tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process that nothing disturbed."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    script = [sys.executable, str(ROOT / "scripts" / "pretrain.py"), "--run", "small", "--spec", json.dumps(run_spec())]
    paths = ["--tokens", str(tokens), "--tokenizer", str(tokenizer), "--out", str(out), "--threads", "2"]
    subprocess.run([*script, *paths], check=True, capture_output=True)
    return out


def test_every_step_is_logged_and_the_loss_falls(finished: Path) -> None:
    lines = read_jsonl(finished / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert [line["tokens"] for line in lines] == [256 * step for step in range(1, STEPS + 1)]
    assert [line["step"] for line in lines if "valid_loss" in line] == [5, 10, 12]
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.5
    assert all(line["grad_norm"] > 0 and line["tokens_per_second"] > 0 for line in lines)
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)


def test_the_summary_and_provenance_are_those_of_the_run(finished: Path) -> None:
    summary, facts = read_json(finished / "summary.json"), read_json(finished / "run.json")
    assert (summary["steps"], summary["tokens"], summary["devices"]) == (STEPS, STEPS * 256, 1)
    assert summary["identity"] == facts["identity"]
    assert facts["spec"] == run_spec()
    assert facts["precision"] == "fp32"
    assert facts["software"]["deepspeed"] != "absent"
    assert list((finished / "tensorboard").glob("events.*"))


def test_the_export_gives_the_logits_of_the_training_model(finished: Path, tokens: Path) -> None:
    objective = LanguageModelling(run_spec(), tokens)
    load_weights(objective.loss_module, load_file(store(finished) / f"step-{STEPS:08d}" / "weights.safetensors"))
    trained = objective.model
    exported = AutoModelForCausalLM.from_pretrained(finished / "model")
    ids = AutoTokenizer.from_pretrained(finished / "model")("今天记者报道", return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.equal(exported(ids).logits, trained.eval()(ids).logits)


def test_validation_loss_is_that_of_the_exported_model(finished: Path, tokens: Path) -> None:
    objective = LanguageModelling(run_spec(), tokens, finished / "model")
    with torch.no_grad():
        loss = objective.evaluation_loss(
            objective.loss_module.eval(), objective.validation_batch(objective.validation())
        )
    assert read_json(finished / "summary.json")["valid_loss"] == pytest.approx(float(loss), abs=1e-5)


@pytest.mark.parametrize(
    "options", [("--processes", "2"), ("--processes", "2", "--zero-stage", "2"), ("--micro-batch", "1")]
)
def test_execution_does_not_change_what_is_learned(
    train: Callable, finished: Path, tmp_path: Path, options: tuple
) -> None:
    other = train(tmp_path / "other", run_spec(), *options)
    for one, two in zip(learned(finished), learned(other), strict=True):
        assert one == pytest.approx(two, rel=1e-3)
    assert read_json(other / "summary.json")["identity"] == read_json(finished / "summary.json")["identity"]


@pytest.mark.parametrize("options", [(), ("--processes", "2", "--zero-stage", "1")])
def test_a_killed_run_ends_with_the_same_weights(
    train: Callable, command: Callable, tmp_path: Path, options: tuple
) -> None:
    spec = run_spec(log_every=3)  # checkpoints fall between lines of metrics, too
    whole = train(tmp_path / "whole", spec, *options)
    out = tmp_path / "killed"
    every_step = ("--checkpoint-seconds", "0")
    process = subprocess.Popen(
        command(out, spec, *options, *every_step), stderr=subprocess.DEVNULL, start_new_session=True
    )
    kill_after(process, out, 2, signal.SIGKILL)
    assert not (out / "summary.json").exists()
    assert list(store(out).glob("step-*"))
    train(out, spec, *options)
    assert "goes on from step" in Path(str(out) + ".log").read_text()
    assert weights(out) == weights(whole)
    assert learned(out) == learned(whole)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    train: Callable, command: Callable, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "damaged"
    process = subprocess.Popen(command(out, run_spec(), "--checkpoint-seconds", "0"), stderr=subprocess.DEVNULL)
    kill_after(process, out, 6, signal.SIGKILL)
    newest = sorted(store(out).glob("step-*"))[-1]
    state = newest / "optimizer.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    train(out, run_spec())
    assert f"{newest.name}: damaged checkpoint" in Path(str(out) + ".log").read_text()
    assert weights(out) == weights(finished)
    assert learned(out) == learned(finished)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_before_it_ends(train: Callable, command: Callable, tmp_path: Path, number: int) -> None:
    out, spec = tmp_path / "stopped", run_spec(budget={"steps": 400})
    process = subprocess.Popen(command(out, spec), stderr=subprocess.PIPE, text=True)
    kill_after(process, out, 2, number)
    assert process.returncode == 1
    (saved,) = store(out).glob("step-*")
    step = read_json(saved / "manifest.json")["step"]
    assert f"stopped by a signal after step {step}; the same command goes on" in process.stderr.read()
    assert step < 400
    assert [line["step"] for line in whole_lines(store(out) / "metrics.jsonl")] == list(range(1, step + 1))
    train(out, spec)
    assert [line["step"] for line in learned(out)] == list(range(1, 401))


def test_a_signal_to_two_ranks_saves_too(train: Callable, command: Callable, tmp_path: Path) -> None:
    out, spec = tmp_path / "stopped", run_spec(budget={"steps": 400})
    process = subprocess.Popen(command(out, spec, "--processes", "2"), stderr=subprocess.PIPE, text=True)
    kill_after(process, out, 2, signal.SIGTERM)
    assert process.returncode == 1
    told = process.stderr.read()
    assert "the same command goes on" in told
    assert "Traceback" not in told
    assert list(store(out).glob("step-*"))


def test_processes_are_chosen_to_divide_the_batch(train: Callable, tmp_path: Path) -> None:
    out = train(tmp_path / "even", run_spec(budget={"steps": 2}), "--processes", "0")
    assert read_json(out / "summary.json")["devices"] == 2
    out = train(tmp_path / "odd", run_spec(budget={"steps": 2}, batch_tokens=96), "--processes", "0")
    assert read_json(out / "summary.json")["devices"] == 1


def test_a_finished_run_is_only_published(train: Callable, finished: Path, tmp_path: Path) -> None:
    out = train(tmp_path / "run", run_spec())
    before = (store(out) / "metrics.jsonl").stat().st_mtime_ns
    for file in ("run.json", "summary.json", "metrics.jsonl"):
        (out / file).unlink()
    train(out, run_spec())
    assert learned(out) == learned(finished)
    assert (store(out) / "metrics.jsonl").stat().st_mtime_ns == before


def test_a_changed_run_starts_anew_and_changing_back_finds_the_old_one(train: Callable, tmp_path: Path) -> None:
    out = train(tmp_path / "run", run_spec())
    first = weights(out)
    train(out, run_spec(optimizer={"lr": 2e-2}))
    assert weights(out) != first
    assert len(list((out / "checkpoints").iterdir())) == 2
    train(out, run_spec())
    assert weights(out) == first


def test_bf16_and_gpt2_learn_too(train: Callable, tmp_path: Path) -> None:
    spec = run_spec(
        model={"family": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2}, precision="bf16", schedule={"kind": "wsd"}
    )
    lines = read_jsonl(train(tmp_path / "run", spec) / "metrics.jsonl")
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.5
    exported = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in exported.values()} == {torch.float32}


def test_a_run_starts_from_the_weights_of_another(train: Callable, finished: Path, tmp_path: Path) -> None:
    lines = read_jsonl(train(tmp_path / "run", run_spec(), "--init", str(finished / "model")) / "metrics.jsonl")
    assert lines[0]["loss"] < read_jsonl(finished / "metrics.jsonl")[6]["loss"]
    assert read_json(tmp_path / "run" / "run.json")["inputs"]["init"] == weights(finished)


@pytest.mark.parametrize(
    ("changes", "options", "told"),
    [
        ({}, ("--processes", "3"), "nearest processes that do: 2 or 4"),
        ({"seq_len": 100_000, "batch_tokens": 100_000}, (), "fewer than one window of seq_len 100000"),
        ({"optimizer": {"lr": 1e30}, "clip": None}, (), "the loss is not a number at step"),
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
