"""Trainings of in-context autoencoders: what they learn, however they are computed, and what they leave."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support import icae_spec, inputs_of, saved_model
from training import STEPS, Runs, exported, learned, store
from transformers import AutoModelForCausalLM

from seedbed.files import read_json
from seedbed.objectives.icae.compressor import Compressor
from seedbed.objectives.icae.model import ENCODER
from seedbed.objectives.icae.objective import Autoencoding, InContextAutoencoding
from seedbed.train.state import load_weights, parameter_names

LORA = {"r": 4, "alpha": 8, "dropout": 0.1}


def lora_spec(**changes: object) -> dict:
    """The spec of a run with adapters of encoder and decoder on a base that is there already."""
    return icae_spec(**{"init": {"run": "base"}, "lora": LORA, "decoder": "trained"} | changes)


@pytest.fixture(scope="session")
def base(finished: Path) -> Path:
    """What a run of language modelling left."""
    return finished / "model"


@pytest.fixture(scope="session")
def anew(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that trains all weights of a new model."""
    return runs.train(tmp_path_factory.mktemp("icae") / "anew", icae_spec())


@pytest.fixture(scope="session")
def adapted(runs: Runs, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that trains adapters."""
    return runs.train(tmp_path_factory.mktemp("icae") / "adapted", lora_spec(), init=base)


@pytest.fixture(params=["anew", "adapted"])
def case(request: pytest.FixtureRequest, base: Path) -> tuple[Path, dict, dict]:
    """A finished run with its spec and what it was started with."""
    out = request.getfixturevalue(request.param)
    return (out, icae_spec(), {}) if request.param == "anew" else (out, lora_spec(), {"init": base})


def last_weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(store(out) / f"step-{STEPS:08d}" / "weights.safetensors")


# --- what is learned --------------------------------------------------------------------------------------------------


def test_every_step_is_logged_and_the_validation_falls(case: tuple, contexts: Path, tokenizer: Path) -> None:
    out, spec, start = case
    lines = learned(out)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert [line["tokens"] for line in lines] == [192 * step for step in range(1, STEPS + 1)]
    validated = [line for line in lines if "valid_loss" in line]
    assert [line["step"] for line in validated] == [5, 10, 12]
    assert all(0.2 < line["valid_accuracy"] < 1 for line in validated)
    torch.manual_seed(spec["seed"])
    made = InContextAutoencoding(spec, inputs_of(contexts, tokenizer, start.get("init")))
    beginning = made.validate(made.loss_module.eval(), made.validation_batch(made.validation_numbers()))
    falling = [float(beginning["loss"]), *(line["valid_loss"] for line in validated)]
    assert falling == sorted(falling, reverse=True)
    summary = read_json(out / "summary.json")
    assert [summary[key] for key in ("valid_loss", "valid_accuracy")] == [falling[-1], validated[-1]["valid_accuracy"]]


def test_a_new_model_learns(anew: Path) -> None:
    lines = learned(anew)
    assert lines[-1]["loss"] < lines[0]["loss"] - 1


def test_a_base_that_was_loaded_is_trained_with_its_dropout(runs: Runs, tokenizer: Path, tmp_path: Path) -> None:
    first = {}
    for dropout in (0.0, 0.5):
        folder = saved_model(tokenizer, tmp_path / str(dropout), "gpt2", resid_pdrop=dropout, embd_pdrop=0.0)
        spec = lora_spec(budget={"steps": 1}, lora=LORA | {"dropout": 0.0}, layout="default")
        out = runs.train(tmp_path / f"run-{dropout}", spec, init=folder)
        first[dropout] = learned(out)[0]
    assert abs(first[0.0]["loss"] - first[0.5]["loss"]) > 1e-4


# --- however it is computed -------------------------------------------------------------------------------------------


def test_a_killed_run_ends_with_the_same_weights(runs: Runs, case: tuple, tmp_path: Path) -> None:
    whole, spec, start = case
    out = tmp_path / "killed"
    training = runs.start(out, spec, **start, checkpoint_steps=1)
    training.reach(2)
    training.kill()
    assert not (out / "summary.json").exists()
    runs.train(out, spec, **start)
    assert "resumes at step" in Path(f"{out}.log").read_text()
    assert exported(out) == exported(whole)
    assert learned(out) == learned(whole)


def assert_same(one: Path, other: Path) -> None:
    for ours, theirs in zip(learned(one), learned(other), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


WITHOUT_DROPOUT = LORA | {"dropout": 0.0}


@pytest.fixture(scope="session")
def steady(runs: Runs, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of adapters without dropout, which draws other numbers on other ranks."""
    spec = lora_spec(lora=WITHOUT_DROPOUT)
    return runs.train(tmp_path_factory.mktemp("icae") / "steady", spec, init=base)


@pytest.mark.parametrize(
    "options",
    [
        {"processes": 2},
        {"processes": 2, "zero_stage": 2},
        {"processes": 2, "zero_stage": 3},
        {"micro_batch": 2, "gradient_checkpointing": True},
    ],
    ids=str,
)
def test_execution_does_not_change_what_adapters_learn(
    runs: Runs, steady: Path, base: Path, tmp_path: Path, options: dict
) -> None:
    assert_same(runs.train(tmp_path / "run", lora_spec(lora=WITHOUT_DROPOUT), init=base, **options), steady)


@pytest.mark.parametrize("zero_stage", [0, 2, 3])
def test_execution_does_not_change_what_all_weights_learn(
    runs: Runs, anew: Path, tmp_path: Path, zero_stage: int
) -> None:
    assert_same(runs.train(tmp_path / "run", icae_spec(), processes=2, zero_stage=zero_stage), anew)


@pytest.mark.parametrize(
    ("before", "after"),
    [({"processes": 2, "zero_stage": 2}, {"processes": 2, "zero_stage": 3}), ({}, {"processes": 2, "zero_stage": 2})],
    ids=str,
)
def test_adapters_go_on_at_other_zero_stages(
    runs: Runs, steady: Path, base: Path, tmp_path: Path, before: dict, after: dict
) -> None:
    out, spec = tmp_path / "moved", lora_spec(lora=WITHOUT_DROPOUT)
    training = runs.start(out, spec, init=base, **before, checkpoint_steps=1)
    training.reach(3)
    training.kill()
    runs.train(out, spec, init=base, **after)
    assert "resumes at step" in Path(f"{out}.log").read_text()
    assert_same(out, steady)


@pytest.mark.parametrize("options", [{}, {"processes": 2, "zero_stage": 2}, {"processes": 2, "zero_stage": 3}], ids=str)
def test_bf16_learns_what_fp32_does_and_leaves_fp32(
    runs: Runs, steady: Path, base: Path, tmp_path: Path, options: dict
) -> None:
    spec = lora_spec(lora=WITHOUT_DROPOUT, precision="bf16")
    out = runs.train(tmp_path / "run", spec, init=base, **options)
    for ours, theirs in zip(learned(out), learned(steady), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=0.02)
    adapter = load_file(out / "model" / ENCODER / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in adapter.values()} == {torch.float32}


def test_what_zero_shares_out_is_exported_whole(runs: Runs, tokenizer: Path, tmp_path: Path) -> None:
    # A head that is too large for every rank to keep.
    folder = saved_model(tokenizer, tmp_path / "base", hidden_size=384, num_hidden_layers=1)
    spec = icae_spec(init={"run": "base"}, decoder="frozen", budget={"steps": 2})
    out = runs.train(tmp_path / "run", spec, init=folder, processes=2, zero_stage=3)
    assert_validated_as_trained(runs, out, spec)
    ours, theirs = (load_file(path / "model.safetensors") for path in (out / "model" / ENCODER, folder))
    assert torch.equal(ours["lm_head.weight"], theirs["lm_head.weight"])


# --- what it leaves ---------------------------------------------------------------------------------------------------


def test_a_checkpoint_has_trained_weights_alone(case: tuple, contexts: Path, tokenizer: Path) -> None:
    out, spec, start = case
    made = InContextAutoencoding(spec, inputs_of(contexts, tokenizer, start.get("init")))
    names = set(parameter_names(made.loss_module).values())
    weights = last_weights(out)
    assert set(weights) == names
    moments = load_file(store(out) / f"step-{STEPS:08d}" / "optimizer.safetensors")
    assert {key.rpartition("/")[0] for key in moments} == names
    if spec["lora"]:
        assert all(".lora_" in name or name == "model.table.weight" for name in names)


def assert_validated_as_trained(runs: Runs, out: Path, spec: dict) -> None:
    """The validation loss of the export is that of the end of the training."""
    found = Compressor(out / "model")
    base = found.find_base(None) if found.facts["base"] else None
    made = InContextAutoencoding(spec, inputs_of(runs.contexts, runs.tokenizer, base))
    figures = made.validate(Autoencoding(found.model), made.validation_batch(made.validation_numbers()))
    summary = read_json(out / "summary.json")
    for name, value in figures.items():
        assert summary[f"valid_{name}"] == pytest.approx(float(value), rel=1e-5)


def test_the_export_is_the_model_that_was_trained(runs: Runs, case: tuple, contexts: Path, tokenizer: Path) -> None:
    out, spec, start = case
    assert_validated_as_trained(runs, out, spec)
    made = InContextAutoencoding(spec, inputs_of(contexts, tokenizer, start.get("init")))
    load_weights(made.loss_module, last_weights(out))
    found = Compressor(out / "model")
    batch = made.validation_batch(range(4))
    with torch.no_grad():
        made.loss_module.eval()
        assert torch.equal(found.model.compress(batch), made.model.compress(batch))
        assert torch.equal(Autoencoding(found.model)(batch), made.loss_module(batch))


def test_text_goes_through_the_memory_of_a_trained_model(case: tuple) -> None:
    found = Compressor(case[0] / "model")
    memory = found.compress("今天记者报道")
    assert memory.shape[0] % 4 == 0 and memory.isfinite().all()
    assert isinstance(found.reconstruct(memory), str)


def test_peft_reads_the_adapter_of_a_trained_encoder(adapted: Path, base: Path) -> None:
    from peft import PeftModel

    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapted / "model" / ENCODER)
    found = Compressor(adapted / "model").model
    ids = torch.arange(3, 23)[None]
    with torch.no_grad():
        expected = theirs.eval().base_model.model.model(input_ids=ids).last_hidden_state
        hidden = found.read(ENCODER, found.embedded(ENCODER, ids), torch.arange(20)[None])
    torch.testing.assert_close(hidden, expected, atol=1e-5, rtol=1e-5)
