"""Trainings of Thinkers: what they learn, however they are computed, stopped or started."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support import thinker_spec
from training import Runs, learned, store, weights

from seedbed.files import read_json
from seedbed.objectives.thinker import load
from seedbed.objectives.thinker.batch import Batch
from seedbed.objectives.thinker.objective import Thinking
from seedbed.objectives.thinker.tasks import generate

CONSTANT = {"kind": "constant"}
# Copying one or two symbols is learned within a few steps, so that the target grows several times.
GROWING = {
    "curriculum": {"kind": "progressive", "first": 1, "delta": 1, "threshold": 0.2, "window": 4},
    "budget": {"steps": 40},
    "n_latent": [2, 3],
    "n_step": {"first": 1, "last": 3},
    "optimizer": {"lr": 2e-2},
    "schedule": CONSTANT,
}


def growing(**changes: object) -> dict:
    return thinker_spec(**GROWING | changes)


def targets(out: Path) -> list[float]:
    return [line["target_length"] for line in learned(out)]


@pytest.fixture(scope="module")
def grown(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose target grew, that nothing disturbed."""
    return runs.train(tmp_path_factory.mktemp("thinker") / "grown", growing())


@pytest.fixture(scope="module")
def copying(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has room for more latents and positions than it trains."""
    model = {"max_latent": 6, "position_range": 12}
    spec = thinker_spec(model=model, length=2, budget={"steps": 150}, optimizer={"lr": 2e-2}, log_every=50)
    return runs.train(tmp_path_factory.mktemp("thinker") / "copying", spec)


def assert_close(one: list[dict], two: list[dict], rel: float) -> None:
    for ours, theirs in zip(one, two, strict=True):
        assert ours == pytest.approx(theirs, rel=rel, abs=0.02)


# --- what is learned --------------------------------------------------------------------------------------------------


def test_a_short_run_learns_and_its_export_answers(copying: Path) -> None:
    lines = learned(copying)
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"] and lines[-1]["valid_accuracy"] > 0.9
    summary = read_json(copying / "summary.json")
    assert summary["valid_exact"] == lines[-1]["valid_exact"] > 0.8
    assert lines[-1]["samples"] == 150 * 16
    found = load(copying / "model")
    sequences = [[a, b] for a in range(8) for b in range(8)]
    assert np.mean([found.answer("copy", sequence) == sequence for sequence in sequences]) > 0.8


def test_the_export_is_the_model_that_was_validated(copying: Path) -> None:
    found, spec = load(copying / "model"), read_json(copying / "run.json")["spec"]
    made = Thinking(spec, {"init": copying / "model"})
    figures = made.validate(made.loss_module.eval(), made.validation_batch(made.validation_numbers()))
    summary = read_json(copying / "summary.json")
    for name, value in figures.items():
        assert summary[f"valid_{name}"] == pytest.approx(float(value), rel=1e-5)
    assert found.facts["task"] == spec["task"]


def test_the_target_grows_as_far_as_it_is_learned(grown: Path) -> None:
    found = targets(grown)
    assert found == sorted(found)
    assert found[0] == 1 and found[-1] >= 4
    assert set(found) == set(range(1, int(found[-1]) + 1))


# --- however it is computed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"micro_batch": 4}, {"processes": 2, "micro_batch": 4}], ids=str)
def test_ranks_and_micro_batches_change_nothing(runs: Runs, grown: Path, tmp_path: Path, options: dict) -> None:
    out = runs.train(tmp_path / "run", growing(), **options)
    assert targets(out) == targets(grown)
    assert_close(learned(out), learned(grown), rel=2e-2)


@pytest.mark.parametrize("zero_stage", [2])  # 3 is below
def test_zero_changes_nothing(runs: Runs, grown: Path, tmp_path: Path, zero_stage: int) -> None:
    out = runs.train(tmp_path / "run", growing(), processes=2, zero_stage=zero_stage)
    assert targets(out) == targets(grown)
    assert_close(learned(out), learned(grown), rel=2e-2)


KINDS = {
    "tied, one by one, static memory, progressive loss": {
        "model": {"tie_word_embeddings": True, "decoding": "output_ar", "static_memory": 2},
        "loss": {"kind": "progressive", "alpha": 0.5},
        "n_step": 3,
    },
    "full_ar": {"model": {"decoding": "full_ar", "norm": "post"}, "n_latent": None},
    "window, random plans": {
        "model": {"latents": "position", "window": 2, "positions": "rope", "flow": "random"},
        "n_latent": None,
        "n_step": [1, 4],
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_model_is_trained_shared_out_or_not_and_answers(runs: Runs, tmp_path: Path, kind: str) -> None:
    spec = thinker_spec(**KINDS[kind], curriculum={"kind": "uniform"}, budget={"steps": 4})
    one = runs.train(tmp_path / "one", spec)
    two = runs.train(tmp_path / "two", spec, processes=2, zero_stage=3)
    assert_close(learned(one), learned(two), rel=2e-2)
    for out in (one, two):
        assert load(out / "model").answer("copy", [1, 2, 3, 4, 5, 6]) == load(one / "model").answer(
            "copy", [*range(1, 7)]
        )


# --- stopped ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[1, 2])
def patient(request: pytest.FixtureRequest, runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """A run whose target waits a while before it grows: the run, its spec and its processes."""
    spec = growing(
        curriculum=GROWING["curriculum"] | {"window": 20},
        budget={"steps": 80},
        validation={"every": 1000, "samples": 16},
    )
    folder = tmp_path_factory.mktemp("thinker")
    return runs.train(folder / "patient", spec, processes=request.param), spec, request.param


@pytest.mark.parametrize("grown", [False, True])
def test_a_killed_run_ends_the_same_whether_its_target_has_grown(
    runs: Runs, tmp_path: Path, patient: tuple, grown: bool
) -> None:
    whole, spec, processes = patient
    first = targets(whole).index(2.0) + 1
    assert 20 <= first < 40
    out = tmp_path / "killed"
    training = runs.start(out, spec, processes=processes, checkpoint_steps=1)
    training.reach(first + 5 if grown else 5)
    training.kill()
    kept = load_file(sorted(store(out).glob("step-*/objective.safetensors"))[-1])
    assert (kept["curriculum.target"] > 1) == grown and len(kept["curriculum.recent"]) > 0
    runs.train(out, spec, processes=processes)
    assert "resumes at step" in Path(f"{out}.log").read_text()
    assert weights(out) == weights(whole)
    assert learned(out) == learned(whole)


def test_lines_of_a_resumed_run_are_the_same_on_two_ranks_without_a_curriculum(runs: Runs, tmp_path: Path) -> None:
    spec = thinker_spec(budget={"steps": 20}, model={"dropout": 0.1, "latent_noise": 0.1})
    whole = runs.train(tmp_path / "whole", spec, processes=2)
    out = tmp_path / "killed"
    training = runs.start(out, spec, processes=2, checkpoint_steps=1)
    training.reach(5)
    training.kill()
    runs.train(out, spec, processes=2)
    assert "resumes at step" in Path(f"{out}.log").read_text()
    assert weights(out) == weights(whole)
    assert learned(out) == learned(whole)


def test_a_rollback_restores_the_curriculum(runs: Runs, tmp_path: Path) -> None:
    # A quantile of 0 is the smallest loss: as the target grows, so does the loss.
    spikes = {"window": 4, "quantile": 0.0, "factor": 1.6, "every": 5, "max_rollbacks": 100}
    spec = growing(budget={"steps": 60}, spikes=spikes)
    out = runs.train(tmp_path / "run", spec)
    met = read_json(out / "summary.json")["spikes"]
    assert met
    plain_out = runs.train(tmp_path / "plain", growing(budget={"steps": 60}))
    found, plain = learned(out), learned(plain_out)
    before = met[0]["back_to"]
    assert found[: before - 1] == plain[: before - 1]
    # What the steps before the spike did to the target is undone: it grew there, and grows again by its own window.
    assert targets(plain_out)[met[0]["step"] - 2] > targets(out)[before - 1]
    assert targets(out)[before - 1] == targets(plain_out)[before - 1] == targets(out)[before]
    again = tmp_path / "killed"
    training = runs.start(again, spec, checkpoint_steps=1)
    training.reach(before + 2)
    training.kill()
    runs.train(again, spec)
    assert weights(again) == weights(out)
    assert learned(again) == learned(out)


# --- started from another ---------------------------------------------------------------------------------------------


LARGER = {"model": {"max_latent": 6, "position_range": 12}, "length": 4, "n_latent": [3, 6], "n_step": [2, 3]}


def test_a_run_goes_on_from_the_end_of_another_with_larger_ranges(runs: Runs, copying: Path, tmp_path: Path) -> None:
    spec = thinker_spec(**LARGER, init={"run": "copying"}, budget={"steps": 3})
    out = runs.train(tmp_path / "run", spec, init=copying / "model")
    anew = runs.train(tmp_path / "anew", thinker_spec(**LARGER, budget={"steps": 3}))
    assert learned(out)[0]["accuracy"] > learned(anew)[0]["accuracy"] + 0.1
    assert read_json(out / "run.json")["inputs"]["init"] == weights(copying)
    assert len(load(out / "model").answer("copy", [1, 2, 3, 4], n_latent=6)) == 4


def test_a_run_goes_on_from_a_step_of_another_with_a_curriculum_of_its_own(runs: Runs, tmp_path: Path) -> None:
    room = {"model": {"max_latent": 6, "position_range": 12}}
    runs.train(tmp_path / "trunk", growing(**room), until=30)
    state = tmp_path / "trunk" / "30"
    spec = growing(**room, init={"run": "other", "step": 30}, n_latent=6, length=8, budget={"steps": 4})
    out = runs.train(tmp_path / "run", spec, init=state)
    anew = runs.train(tmp_path / "anew", growing(**room, n_latent=6, length=8, budget={"steps": 4}))
    assert learned(out)[0]["loss"] < learned(anew)[0]["loss"]
    assert targets(out)[0] == targets(anew)[0] == 1


# --- what it leaves ---------------------------------------------------------------------------------------------------


def test_the_checkpoint_has_the_weights_that_are_exported(copying: Path) -> None:
    kept = load_file(store(copying) / "step-00000150" / "weights.safetensors")
    exported = load_file(copying / "model" / "model.safetensors")
    assert {name.removeprefix("model."): weight.tolist() for name, weight in kept.items()} == {
        name: weight.tolist() for name, weight in exported.items()
    }


def test_it_answers_problems_of_any_split(copying: Path) -> None:
    made = Thinking(read_json(copying / "run.json")["spec"], {})
    problems = generate(made.task, "test", 0, range(20), 2, 2)
    (answers,) = load(copying / "model").answers(problems)
    assert (torch.from_numpy(answers).T == Batch.of(problems).targets).float().mean() > 0.9
