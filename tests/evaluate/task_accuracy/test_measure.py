"""Figures of Thinkers against answers to one problem at a time, each with as many steps as are asked for."""

import csv
from collections.abc import Callable
from itertools import accumulate
from math import ceil
from pathlib import Path

import numpy as np
import pytest
import torch
from support import leave_run, of_type

from seedbed.config.fields import dump
from seedbed.evaluate.intervals import wilson
from seedbed.evaluate.job import evaluate
from seedbed.evaluate.task_accuracy import measure as task_accuracy
from seedbed.evaluate.task_accuracy.config import TaskAccuracy
from seedbed.evaluate.task_accuracy.measure import measure, times, training
from seedbed.evaluate.task_accuracy.result import Result
from seedbed.objectives.thinker.config import ThinkerRun
from seedbed.objectives.thinker.objective import Thinking
from seedbed.objectives.thinker.subject import ThinkerSubject
from seedbed.objectives.thinker.tasks import Problems, generate
from seedbed.train.state import parameter_names

KEYS = ("length", "n_latent", "n_step")
MODEL = {"hidden_size": 8, "num_attention_heads": 2, "position_range": 16, "max_latent": 4}
FLIP = {"name": "flip", "symbols": 2}
LINE = {"step": 10, "samples": 40, "seconds": 1.5, "loss": 1.0, "lr": 0.1, "grad_norm": 1.0}
LINE |= {"valid_accuracy": 0.5, "valid_exact": 0.25}
TABLE = [{"read_input": True, "mem_write": True, "output": True}, {"mem_lookup": True, "output": True}]


def spec(**changes: object) -> dict:
    asked = {"kind": "task-accuracy", "lengths": [3], "samples": 20, "timed": 0}
    return dump(TaskAccuracy.model_validate(asked | changes))


@pytest.fixture
def subject(tmp_path: Path) -> Callable[..., ThinkerSubject]:
    """Thinkers whose weights are all random, so that they are right now and then; some keys of the run changed."""

    def made(model: dict | None = None, metrics: list[dict] | None = None, **changes: object) -> ThinkerSubject:
        fields = {
            "objective": "thinker",
            "task": FLIP,
            "length": 5,
            "model": MODEL | (model or {}),
            "n_latent": [2, 3],
            "n_step": [2, 3],
            "batch": 4,
            "budget": {"steps": 1},
            "optimizer": {"lr": 1e-2},
        }
        torch.manual_seed(0)
        objective = Thinking(ThinkerRun.model_validate(fields | changes).spec(), {})
        weights = {
            name: (weight + torch.randn(weight.shape)).detach()
            for weight, name in parameter_names(objective.loss_module).items()
        }
        run = tmp_path / f"run-{len(list(tmp_path.glob('run-*')))}"
        run.mkdir()
        objective.export(run / "model", run / "model", weights)
        return ThinkerSubject(leave_run(run, metrics or [LINE], {"objective": "thinker"}))

    return made


def settings_of(result: dict, *keys: str) -> list[tuple]:
    return [tuple(one[key] for key in keys or KEYS) for one in result["settings"]]


def common(first: list[int], second: list[int]) -> int:
    """In how many places lists of one length agree."""
    return sum(a == b for a, b in zip(first, second, strict=True))


# --- answers ---------------------------------------------------------------------------------------------------------

MODELS = {
    "plain": {},
    "input at first steps": {"model": {"read_step": 2}},
    "short memory": {"model": {"n_memory": 1, "static_memory": 2, "output_step": 2}},
    "random positions": {"model": {"positions": "random"}},
    "always": {"model": {"flow": "always"}},
    "random flow": {"model": {"flow": "random"}},
    "read once": {"model": {"flow": "read-once-answer-last"}},
    "table": {"model": {"flow": TABLE}, "n_step": 2},
    "latents by position": {"model": {"latents": "position", "max_latent": None, "window": 1}, "n_latent": None},
    "one by one": {"model": {"decoding": "output_ar"}},
    "Perceiver AR": {"model": {"decoding": "full_ar", "max_latent": None}, "n_latent": None},
}


@pytest.mark.parametrize("kind", MODELS)
def test_figures_are_those_of_one_problem_and_one_number_of_steps_at_a_time(subject: Callable, kind: str) -> None:
    thinker = subject(**MODELS[kind])
    asked = spec(
        lengths=[3, 6],
        n_latent=[1, 4] if thinker.facts["n_latent"] else None,
        n_step=None if kind == "table" else [1, 2, 4],
        seed=3,
        split="valid",
    )
    result, _ = measure(asked, thinker)
    latents, steps = asked["n_latent"] or [None], asked["n_step"] or [2]
    assert settings_of(result) == [(length, n, step) for length in (3, 6) for n in latents for step in steps]
    for one in [*result["settings"], *result["claim"]]:
        problems = generate(thinker.task, "valid", 3, range(20), one["length"], one["length"]).inputs.tolist()
        answers = [thinker.answerer.answer("flip", row, one["n_latent"], one["n_step"]) for row in problems]
        right = [common(made, row[::-1]) for made, row in zip(answers, problems, strict=True)]
        token, exact = sum(right) / len(right) / one["length"], right.count(one["length"])
        assert one["token"]["mean"] == pytest.approx(token)
        assert one["token"]["interval"] == pytest.approx(wilson(token * 20, 20))
        assert one["exact"] == {"mean": exact / 20, "interval": wilson(exact, 20)}
    assert len({one["token"]["mean"] for one in result["settings"]}) > 1


def test_steps_that_are_one_pass_are_found_by_step(subject: Callable) -> None:
    thinker = subject()
    result, _ = measure(spec(lengths=[5], n_latent=[4], n_step=[1, 2, 4], at={"n_latent": 4}), thinker)
    by_step = {one["n_step"]: one for one in result["by_iteration"]}
    assert list(by_step) == [1, 2, 3, 4]
    for one in result["settings"]:
        assert {key: one[key] for key in ("token", "exact")} == {
            key: by_step[one["n_step"]][key] for key in ("token", "exact")
        }


@pytest.mark.parametrize("kind", ["read once", "table", "one by one", "Perceiver AR"])
def test_steps_that_end_otherwise_have_no_figures_by_step(subject: Callable, kind: str) -> None:
    assert measure(spec(), subject(**MODELS[kind]))[0]["by_iteration"] is None


def test_padding_is_not_counted(subject: Callable) -> None:
    """Sums with as many digits as they need, and the marker that ends them."""
    thinker = subject(task={"name": "addition", "base": 2, "width": "variable"}, length=3)
    result, _ = measure(spec(n_latent=[2], n_step=[3]), thinker)
    problems = generate(thinker.task, "test", 0, range(20), 3, 3)
    found = []
    for row, count in zip(problems.inputs.tolist(), problems.input_lengths, strict=True):
        plus, equals = row.index(2), row[:count].index(3)
        total = number(row[:plus]) + number(row[plus + 1 : equals])
        expected = [int(digit) for digit in reversed(f"{total:b}")] + [2]
        problem = thinker.task.read([number(row[:plus]), number(row[plus + 1 : equals])])
        found.append(common(thinker.answerer.answers(problem, 2, 3)[-1][0].tolist(), expected) / len(expected))
    assert len({*found}) > 3
    assert result["settings"][0]["token"]["mean"] == pytest.approx(sum(found) / 20)
    assert result["settings"][0]["exact"]["mean"] == found.count(1.0) / 20


def number(digits: list[int]) -> int:
    return sum(digit * 2**place for place, digit in enumerate(digits))


@pytest.mark.parametrize("kind", ["plain", "one by one"])
def test_figures_do_not_depend_on_how_many_are_answered_at_once(
    subject: Callable, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    thinker = subject(**MODELS[kind])
    whole = measure(spec(lengths=[3, 6]), thinker)
    sizes, answers = [], thinker.answerer.answers

    def counted(problems: Problems, *rest: object, **more: object) -> np.ndarray:
        sizes.append(len(problems))
        return answers(problems, *rest, **more)

    monkeypatch.setattr(thinker.answerer, "answers", counted)
    for room, most in ((1_000, range(2, 20)), (1, range(1, 2))):
        monkeypatch.setattr(task_accuracy, "ROOM", room)
        sizes.clear()
        assert measure(spec(lengths=[3, 6]), thinker) == whole
        assert max(sizes) in most


# --- what is asked ---------------------------------------------------------------------------------------------------


def test_null_is_what_was_trained(subject: Callable) -> None:
    result, _ = measure(spec(lengths=None), subject())
    assert settings_of(result) == [(5, 2, 2), (5, 2, 3), (5, 3, 2), (5, 3, 3)]
    assert [(one["length"], one["n_latent"], one["n_step"]) for one in result["claim"]] == [(5, 3, 3)]
    assert [one["n_step"] for one in result["by_iteration"]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("at", "n_latent", "steps"),
    [({}, 3, [3, 3]), ({"n_latent": 1, "n_step": 5}, 1, [5, 5]), ({"steps_per_symbol": 0.7}, 3, [3, 5])],
)
def test_claims_are_at_the_one_setting_that_was_fixed(
    subject: Callable, at: dict, n_latent: int, steps: list[int]
) -> None:
    result, rows = measure(spec(lengths=[4, 7], n_latent=[4], n_step=[1, 2], at=at), subject())
    claimed = [(one["length"], one["n_latent"], one["n_step"]) for one in result["claim"]]
    assert claimed == [(4, n_latent, steps[0]), (7, n_latent, steps[1])]
    assert settings_of(result) == [(4, 4, 1), (4, 4, 2), (7, 4, 1), (7, 4, 2)]
    assert len(rows) == 4
    own = ceil(0.7 * 5) if "steps_per_symbol" in at else steps[0]
    assert [one["n_step"] for one in result["by_iteration"]] == list(range(1, own + 1))


def test_problems_that_training_may_have_are_told(subject: Callable) -> None:
    result, _ = measure(spec(lengths=[3, 8]), subject())
    assert [one["shared"] for one in result["claim"]] == [1.0, 0.0]


CURRICULA = {
    "fixed": ({"kind": "fixed"}, None, (5, 5)),
    "uniform": ({"kind": "uniform", "first": 2}, None, (2, 5)),
    "grown": ({"kind": "progressive"}, 5, (1, 5)),
    "still growing": ({"kind": "progressive"}, 4, (1, 4)),
}


@pytest.mark.parametrize("kind", CURRICULA)
def test_what_was_trained_is_told(subject: Callable, kind: str) -> None:
    curriculum, target, (first, last) = CURRICULA[kind]
    line = LINE | ({"target_length": target} if target else {})
    result, _ = measure(
        spec(lengths={"first": 1, "last": 6}, n_latent=[2, 4], n_step=[1, 3]),
        subject(curriculum=curriculum, metrics=[LINE | {"target_length": 2}, line]),
    )
    assert result["trained"] == {
        "length": {"first": first, "last": last},
        "n_latent": {"first": 2, "last": 3},
        "n_step": {"first": 2, "last": 3},
    }
    within = {(length, *rest) for length, *rest, yes in settings_of(result, *KEYS, "trained") if yes}
    assert within == {(length, 2, 3) for length in range(first, last + 1)}


# --- training --------------------------------------------------------------------------------------------------------


def test_the_first_validation_that_reaches_an_accuracy_is_told() -> None:
    values = [(10, 0.5), (20, 0.75), (30, 0.5), (40, 0.875)]
    lines = [LINE | {"step": step, "samples": 4 * step, "seconds": step / 2, "valid_accuracy": x} for step, x in values]
    lines = [{"step": 5, "samples": 20, "seconds": 2.5, "accuracy": 1.0}, *lines]
    end = {"valid_accuracy": 0.875, "valid_exact": 0.25, "seconds": 20.0}
    assert training(lines, 0.75) == {
        "reach": 0.75,
        "reached": {"step": 20, "samples": 80, "seconds": 10.0},
        **end,
    }
    assert training(lines, 0.9) == {"reach": 0.9, "reached": None, **end}


def test_times_are_medians_of_batches_after_the_first(subject: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    first, others = [100, 100, 100], [[1, 2, 5], [1, 4, 6], [3, 4, 5]]
    clock = iter(accumulate([0, *first, *(part for batch in others for part in (0, *batch))]))
    monkeypatch.setattr(task_accuracy, "now", lambda device: next(clock))
    thinker = subject(
        model={"dropout": 0.5}, curriculum={"kind": "uniform"}, loss={"kind": "progressive", "alpha": 0.5}
    )
    assert times(thinker, 3) == {
        "batches": 3,
        "samples": 4,
        "data": {"seconds": 1, "share": 0.1},
        "forward": {"seconds": 4, "share": 0.4},
        "backward": {"seconds": 5, "share": 0.5},
    }
    model = thinker.answerer.model
    assert not model.training and all(weight.grad is None for weight in model.parameters())


# --- what is written -------------------------------------------------------------------------------------------------


def test_what_is_written_is_of_its_type(subject: Callable, tmp_path: Path) -> None:
    thinker = subject()
    asked = spec(lengths=None, n_step=[1, 3], timed=1)
    found = evaluate("grid", asked, thinker.run, None, [], tmp_path / "grid")
    extra = ("evaluation", "spec", "model", "data", "seconds")
    result = of_type({key: value for key, value in found.items() if key not in extra}, Result)
    facts = {key: result[key] for key in ("task", "length", "decoding", "parameters")}
    count = sum(weight.numel() for weight in thinker.answerer.model.parameters())
    assert facts == {"task": "flip", "length": 5, "decoding": "parallel", "parameters": count}
    rows = list(csv.DictReader((tmp_path / "grid.tsv").open(encoding="utf-8"), delimiter="\t"))
    assert [(row["n_latent"], row["n_step"], row["trained"]) for row in rows] == [
        ("2", "1", "0"), ("2", "3", "1"), ("3", "1", "0"), ("3", "3", "1")
    ]  # fmt: skip
    one = result["settings"][1]
    for key in ("token", "exact"):
        figures = (one[key]["mean"], *one[key]["interval"])
        assert tuple(float(rows[1][name]) for name in (key, f"{key}_low", f"{key}_high")) == figures
