"""What a run learns, and what it leaves; each is a process of its own."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support import inputs_of
from training import MODEL, STEPS, Runs, learned, run_spec, store, weights
from transformers import AutoModelForCausalLM, AutoTokenizer

from seedbed.files import read_json, read_jsonl
from seedbed.objectives.lm.objective import LanguageModelling
from seedbed.train.engine import Engine
from seedbed.train.execution import Execution
from seedbed.train.state import load_weights


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


def test_the_export_gives_the_logits_of_the_training_model(finished: Path, tokens: Path, tokenizer: Path) -> None:
    objective = LanguageModelling(run_spec(), inputs_of(tokens, tokenizer))
    load_weights(objective.loss_module, load_file(store(finished) / f"step-{STEPS:08d}" / "weights.safetensors"))
    trained = objective.model
    exported = AutoModelForCausalLM.from_pretrained(finished / "model")
    ids = AutoTokenizer.from_pretrained(finished / "model")("今天记者报道", return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.equal(exported(ids).logits, trained.eval()(ids).logits)


def test_validation_loss_is_that_of_the_exported_model(finished: Path, tokens: Path, tokenizer: Path) -> None:
    objective = LanguageModelling(run_spec(), inputs_of(tokens, tokenizer, finished / "model"))
    with torch.no_grad():
        batch = objective.validation_batch(objective.validation_numbers())
        loss = objective.validate(objective.loss_module.eval(), batch)["loss"]
    assert read_json(finished / "summary.json")["valid_loss"] == pytest.approx(float(loss), abs=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"processes": 2},
        {"processes": 2, "zero_stage": 1},
        {"processes": 2, "zero_stage": 2},
        {"processes": 2, "zero_stage": 3},
        {"processes": 2, "zero_stage": 2, "offload": "cpu"},
        {"micro_batch": 1},
        {"gradient_checkpointing": True},
    ],
    ids=str,
)
def test_execution_does_not_change_what_is_learned(runs: Runs, finished: Path, tmp_path: Path, options: dict) -> None:
    other = runs.train(tmp_path / "other", run_spec(), **options)
    for one, two in zip(learned(finished), learned(other), strict=True):
        assert one == pytest.approx(two, rel=1e-3)
    assert read_json(other / "summary.json")["identity"] == read_json(finished / "summary.json")["identity"]


def test_compiled_models_learn_the_same(runs: Runs, finished: Path, tmp_path: Path) -> None:
    other = runs.train(tmp_path / "other", run_spec(), compile=True)
    for one, two in zip(learned(finished), learned(other), strict=True):
        assert one == pytest.approx(two, rel=1e-3)


def test_a_finished_run_is_only_published(runs: Runs, finished: Path, tmp_path: Path) -> None:
    out = runs.train(tmp_path / "run", run_spec())
    before = (store(out) / "metrics.jsonl").stat().st_mtime_ns
    for file in ("run.json", "summary.json", "metrics.jsonl"):
        (out / file).unlink()
    runs.train(out, run_spec())
    assert learned(out) == learned(finished)
    assert (store(out) / "metrics.jsonl").stat().st_mtime_ns == before


def test_a_changed_run_starts_anew_and_changing_back_finds_the_old_one(runs: Runs, tmp_path: Path) -> None:
    out = runs.train(tmp_path / "run", run_spec())
    first = weights(out)
    runs.train(out, run_spec(optimizer={"lr": 2e-2}))
    assert weights(out) != first
    assert len(list((out / "checkpoints").iterdir())) == 2
    runs.train(out, run_spec())
    assert weights(out) == first


def test_bf16_and_gpt2_learn_too(runs: Runs, tmp_path: Path) -> None:
    spec = run_spec(
        model={"family": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2}, precision="bf16", schedule={"kind": "wsd"}
    )
    lines = read_jsonl(runs.train(tmp_path / "run", spec) / "metrics.jsonl")
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.5
    exported = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in exported.values()} == {torch.float32}


# --- what else a run may be ------------------------------------------------------------------------------------------


def test_a_model_with_normalised_keys_tells_their_norm(runs: Runs, tmp_path: Path) -> None:
    out = runs.train(tmp_path / "run", run_spec(model=MODEL | {"key_norm": True}))
    assert all(line["key_norm"] > 0 for line in learned(out))
    assert read_json(out / "model" / "config.json")["model_type"] == "llama_keynorm"
    assert "seedbed.models.keynorm" in (out / "model" / "README.md").read_text(encoding="utf-8")


RECURRENCE = {"work_size": 8, "cache_size": 12, "stop_gradient_step": 2}


@pytest.mark.parametrize("data", ["order", "shuffle"])
@pytest.mark.parametrize("options", [{}, {"processes": 2, "zero_stage": 2}], ids=str)
def test_a_recurrent_run_goes_on_with_what_its_rows_remember(
    runs: Runs, tmp_path: Path, data: str, options: dict
) -> None:
    spec = run_spec(data=data, recurrence=RECURRENCE)
    whole = runs.train(tmp_path / "whole", spec, **options)
    training = runs.start(tmp_path / "killed", spec, **options, checkpoint_steps=1)
    training.reach(4)
    training.kill()
    out = runs.train(tmp_path / "killed", spec, **options)
    assert weights(out) == weights(whole)
    assert learned(out) == learned(whole)
    assert read_json(out / "model" / "config.json")["recurrence"] == {"work_size": 8, "cache_size": 12}


def test_recurrent_rows_do_not_mind_who_computes_them(runs: Runs, tmp_path: Path) -> None:
    spec = run_spec(data="order", recurrence=RECURRENCE)
    whole = runs.train(tmp_path / "whole", spec)
    training = runs.start(tmp_path / "moved", spec, processes=2, checkpoint_steps=1)
    training.reach(4)
    training.kill()
    moved = runs.train(tmp_path / "moved", spec, micro_batch=2)
    for one, two in zip(learned(whole), learned(moved), strict=True):
        assert one == pytest.approx(two, rel=1e-3)


def test_a_plateau_lowers_the_learning_rate_also_after_a_kill(runs: Runs, tmp_path: Path) -> None:
    schedule = {"kind": "plateau", "factor": 0.5, "patience": 1, "threshold": 0.99}  # nothing is an improvement
    spec = run_spec(schedule=schedule, validation={"every": 2, "tokens": 100})
    whole = runs.train(tmp_path / "whole", spec)
    assert [line["lr"] for line in learned(whole)] == [0.01] * 6 + [0.005] * 4 + [0.0025] * 2
    training = runs.start(tmp_path / "killed", spec, checkpoint_steps=1)
    training.reach(8)
    training.kill()
    assert learned(runs.train(tmp_path / "killed", spec)) == learned(whole)


@pytest.mark.parametrize(("name", "lr"), [("adam", 1e-2), ("adafactor", 1e-1), ("muon", 1e-2)])
def test_other_optimizers_learn_and_go_on_exactly(runs: Runs, tmp_path: Path, name: str, lr: float) -> None:
    spec = run_spec(optimizer={"name": name, "lr": lr})
    whole = runs.train(tmp_path / "whole", spec)
    assert learned(whole)[-1]["loss"] < learned(whole)[0]["loss"] - 0.1
    training = runs.start(tmp_path / "killed", spec, checkpoint_steps=1)
    training.reach(4)
    training.kill()
    assert weights(runs.train(tmp_path / "killed", spec)) == weights(whole)


def test_what_zero_shares_out_and_offloads_reaches_deepspeed() -> None:
    engine = Engine.__new__(Engine)  # what it tells DeepSpeed, without DeepSpeed
    engine.execution, engine.stage, engine.clip = Execution(zero_stage=2, offload="cpu"), 2, 2.0
    engine.accumulation = 4
    settings = engine.settings(2, "bf16")
    assert settings["zero_optimization"] == {"stage": 2, "offload_optimizer": {"device": "cpu"}}
    assert (settings["gradient_accumulation_steps"], settings["gradient_clipping"]) == (4, 2.0)
    assert settings["torch_autocast"] == {"enabled": True, "dtype": "bfloat16"}


def test_compiling_replaces_what_computes_the_hidden_states(tokens: Path, tokenizer: Path) -> None:
    objective = LanguageModelling(run_spec(), inputs_of(tokens, tokenizer))
    before = dict(objective.loss_module.named_parameters())
    objective.compile()
    assert isinstance(objective.loss_module.backbone, torch._dynamo.OptimizedModule)
    assert dict(objective.loss_module.named_parameters()) == before  # no name of a checkpoint changes
