"""What a configuration may say of a Thinker, and how a plan takes it."""

import json
from pathlib import Path

import pytest
from support import changed, first_study

from seedbed.config.load import check
from seedbed.errors import SeedbedError
from seedbed.objectives.thinker.geometry import Geometry
from seedbed.plan import Plan
from seedbed.plan.forecast import forecast

THINK = {
    "objective": "thinker",
    "task": {"name": "copy", "symbols": 8},
    "length": 6,
    "model": {"hidden_size": 16},
    "n_latent": 3,
    "n_step": 2,
    "batch": 16,
    "budget": {"steps": 12},
    "optimizer": {"lr": 1e-2},
}
FIRST = first_study()
CONFIG = FIRST | {"runs": FIRST["runs"] | {"think": THINK}}

READ, ANSWER = {"read_input": True, "mem_write": True}, {"mem_lookup": True, "output": True}
ADDITION = {"name": "addition", "base": 10}
BY_POSITION = {"n_latent": None, "model": {"latents": "position"}}
FULL = {"n_latent": None, "model": {"decoding": "full_ar"}}

MISTAKES = [
    ({"n_latent": {"first": 5, "last": 3}}, ["think.n_latent: an empty range: last 3 is less than first 5"]),
    ({"n_step": {"first": 3, "last": 1}}, ["think.n_step: an empty range: last 1 is less than first 3"]),
    ({"n_latent": []}, ["think.n_latent", "at least 1"]),
    ({"n_step": 0}, ["think.n_step", "greater than or equal to 1; found 0"]),
    ({"n_step": [2, 0]}, ["think.n_step.1", "greater than or equal to 1; found 0"]),
    ({"n_step": "many"}, ["think.n_step", "whole number", "'many'"]),
    ({"n_step": {"frist": 1, "last": 2}}, ["think.n_step.frist", "did you mean 'first'?"]),
    ({"model": {"position_range": 5}}, ["length 6 needs 6 positions; model.position_range has 5"]),
    ({"model": {"position_range": 13}, "task": ADDITION}, ["length 6 needs 14 positions"]),
    ({"model": {"positions": "random"}}, ["model.position_range: missing"]),
    ({"task": {"name": "addition", "base": 1}}, ["think.task.base", "greater than or equal to 2; found 1"]),
    ({"task": {"name": "addition"}}, ["think.task.base: missing"]),
    ({"task": {"name": "roll", "symbols": 8}}, ["think.task.shift: missing"]),
    ({"task": {"name": "roll_num", "symbols": 8}}, ["think.task.add: missing"]),
    ({"task": {"name": "jump", "symbols": 8}}, ["think.task.stride: missing"]),
    ({"task": {"name": "copy"}}, ["think.task.symbols: missing"]),
    ({"task": {"name": "copy", "symbols": 8, "shift": 1}}, ["think.task.shift: unknown key"]),
    ({"task": {"name": "cumsumm", "symbols": 8}}, ["think.task", "'cumsumm'; did you mean 'cumsum'?"]),
    ({"task": {"symbols": 8}}, ["think.task: expected a mapping with name, or with python"]),
    ({"task": "copy"}, ["think.task: expected a mapping with name", "found 'copy'"]),
    ({"task": {"name": ["copy"], "symbols": 8}}, ["think.task: name: found ['copy']"]),
    ({"task": {"python": "mine.py", "symbols": 8}}, ["python: expected file.py:function; found 'mine.py'"]),
    ({"task": ADDITION | {"largest": 10**6}}, ["task.largest 1000000 has more than 6 digits in base 10"]),
    ({"model": {"flow": [READ]}, "n_step": 1}, ["think.model: flow: never outputs"]),
    (
        {"model": {"static_memory": 1, "flow": [{"static_mem_lookup": True, "output": True}]}, "n_step": 1},
        ["think.model: flow: never reads the input"],
    ),
    ({"model": {"flow": [READ, {"output": True}]}}, ["think.model: flow: row 2 sees nothing"]),
    (
        {"model": {"flow": [READ, ANSWER]}, "n_step": [2, 3]},
        ["n_step: found [2, 3], expected the 2 rows of model.flow"],
    ),
    ({"model": {"flow": []}}, ["think.model.flow", "at least 1"]),
    ({"model": {"flow": "alwayss"}}, ["think.model.flow: found 'alwayss'; did you mean 'always'?"]),
    ({"model": {"flow": [READ, {"reed": 1}]}}, ["think.model.flow.1.reed: unknown key"]),
    ({"model": {"flow": "always", "read_step": 1}}, ["read_step has no effect with a flow plan"]),
    ({"model": {"flow": "always"}, "loss": {"kind": "progressive", "alpha": 0.5}}, ["progressive goes without a flow"]),
    ({"curriculum": {"kind": "uniform", "first": 7}}, ["curriculum.first 7 is beyond length 6"]),
    ({"curriculum": {"kind": "progressive", "first": 7}}, ["curriculum.first 7 is beyond length 6"]),
    ({"curriculum": {"kind": "progressiv"}}, ["curriculum.kind: found 'progressiv'; did you mean 'progressive'?"]),
    ({"budget": {"epochs": 1}}, ["think.budget: epochs: a task is drawn without end; expected samples or steps"]),
    ({"budget": {"steps": 1, "samples": 1}}, ["think.budget: expected exactly one of"]),
    ({"model": {"latents": "position"}}, ["n_latent: latents by position has as many latents as positions"]),
    ({"model": {"decoding": "full_ar"}}, ["n_latent: full_ar has as many latents as positions"]),
    ({"n_latent": None}, ["think: n_latent: missing"]),
    ({"model": {"max_latent": 2}}, ["n_latent 3 is more than model.max_latent 2"]),
    ({"n_latent": None, "model": {"latents": "position", "max_latent": 2}}, ["max_latent has no effect"]),
    ({"model": {"hidden_size": 30}}, ["think.model: hidden_size 30 does not divide into 4 heads"]),
    ({"model": {"hidden_size": 12, "positions": "rope"}}, ["rope needs heads of even width; found 3"]),
    ({"model": {"window": 2}}, ["window is for latents by position"]),
    ({"n_latent": None, "model": {"latents": "position", "window": 2}, "task": ADDITION}, ["model.window: the digits"]),
    (
        {"n_latent": None, "model": {"decoding": "full_ar", "output_step": 2}},
        ["output_step has no effect with full_ar"],
    ),
    ({"n_latent": None, "model": {"decoding": "full_ar", "flow": "always"}}, ["flow has no effect with full_ar"]),
    ({"model": {"tie_word_embeddings": True}, "task": ADDITION}, ["model.tie_word_embeddings: addition answers"]),
    (
        {"loss": {"kind": "all", "alpha": 0.5}},
        ["think.loss: alpha is for the progressive loss", "found all, alpha 0.5"],
    ),
    ({"loss": {"kind": "progressive"}}, ["think.loss: alpha is for the progressive loss, which needs it"]),
    ({"optimizer": {"lr": "auto"}}, ["optimizer.lr: auto is a formula for language models"]),
    ({"precision": "bf16"}, ["think.precision: found 'bf16'; valid: fp32"]),
    ({"init": {"run": "tiny"}}, ["think.init: 'tiny' is of kind 'causal-lm'; expected 'thinker'"]),
]


def config_of(**changes: object) -> dict:
    """The configuration with keys of the run changed, those of its model one by one."""
    model = THINK["model"] | changes.pop("model", {})
    return changed(CONFIG, "runs.think", THINK | changes | {"model": model})


def told(config: dict) -> str:
    with pytest.raises(SeedbedError) as caught:
        Plan(check(config))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("changes", "parts"), MISTAKES, ids=[str(changes) for changes, _ in MISTAKES])
def test_a_mistake_is_one_line_before_anything_runs(changes: dict, parts: list[str]) -> None:
    text = told(config_of(**changes))
    assert all(part in text for part in ["config: runs.think", *parts]), text


ALLOWED = [
    {"n_latent": [1, 4, 2], "n_step": {"first": 2, "last": 10, "step": 4}},
    BY_POSITION,
    FULL,
    {"model": {"flow": [READ, ANSWER]}},
    {"model": {"flow": "read-once-answer-last"}, "n_step": [2, 4], "loss": {"kind": "scaled"}},
    {"loss": {"kind": "progressive", "alpha": 0.5}, "n_step": 4},
    {"task": ADDITION | {"largest": 999_999}},
    {"task": {"name": "copy", "symbols": "1Ki"}, "budget": {"samples": "1M"}},
    {"curriculum": {"kind": "progressive", "first": 6}},
    {"model": {"positions": "random", "position_range": 6}},
]


@pytest.mark.parametrize("changes", ALLOWED, ids=str)
def test_what_fits_is_planned_and_its_spec_is_plain(changes: dict) -> None:
    spec = Plan(check(config_of(**changes))).runs["think"].spec()
    assert json.loads(json.dumps(spec)) == spec


def test_numbers_are_written_out() -> None:
    spec = Plan(check(config_of(**ALLOWED[0]))).runs["think"].spec()
    assert (spec["n_latent"], spec["n_step"]) == ([1, 2, 4], [2, 6, 10])
    assert Plan(check(CONFIG)).runs["think"].spec()["n_latent"] == [3]


def test_a_dry_run_shows_the_weights_of_a_run() -> None:
    plan = Plan(check(CONFIG))
    (line,) = [line for line in forecast(plan).splitlines() if line.startswith("think ")]
    assert line.split()[1] == f"{Geometry.of(plan.runs['think'].spec()).parameters:,}"


# --- init -------------------------------------------------------------------------------------------------------------


def after(origin: dict, **changes: object) -> dict:
    """A configuration in which `think` starts from a run `before`."""
    config = config_of(init={"run": "before"}, **changes)
    return changed(config, "runs.before", config_of(**origin)["runs"]["think"])


LARGE = {"max_latent": 8, "position_range": 12}


def test_a_run_starts_from_one_with_smaller_ranges() -> None:
    plan = Plan(check(after({"model": LARGE}, model=LARGE, n_latent=[3, 8], n_step=9, length=12)))
    assert plan.runs["think"].spec()["init"] == {"step": None, "optimizer": False}
    Plan(check(changed(after({"model": LARGE}, model=LARGE), "runs.think.init.step", 12)))


@pytest.mark.parametrize(
    ("origin", "changes", "parts"),
    [
        ({}, {"n_latent": 4}, ["weights of other shapes", "position_range and max_latent"]),
        ({}, {"length": 7}, ["weights of other shapes"]),
        ({}, {"model": {"hidden_size": 32}}, ["weights of other shapes"]),
        ({}, {"model": {"norm": "post"}}, ["weights of other shapes"]),
        ({}, {"task": {"name": "flip", "symbols": 8}}, ["a different task"]),
        ({}, {"task": {"name": "copy", "symbols": 9}}, ["a different task"]),
        (
            {"budget": {"steps": 5}},
            {"init": {"run": "before", "step": 6}},
            ["init.step: 'before' has 5 steps; found 6"],
        ),
    ],
    ids=str,
)
def test_a_run_of_another_shape_is_no_start(origin: dict, changes: dict, parts: list[str]) -> None:
    config = after(origin, **{key: value for key, value in changes.items() if key != "init"})
    config = changed(config, "runs.think.init", changes.get("init", {"run": "before"}))
    text = told(config)
    assert all(part in text for part in ["config: runs.think.init", *parts]), text


# --- tasks of the user's ----------------------------------------------------------------------------------------------

MINE = """
def good(x, lengths, by=1):
    return (x + by) % 8
def raising(x, lengths):
    raise ValueError("not\\nyet")
def short(x, lengths):
    return x[:, 1:]
"""


@pytest.mark.parametrize(
    ("function", "parts"),
    [
        ("raising", ["mine.py:raising: ValueError: not"]),
        ("short", ["mine.py:short: returned int64 [8, 5], expected whole numbers [8, 6]"]),
        ("goood", ["mine.py: has no function 'goood'; did you mean 'good'?"]),
    ],
)
def test_a_task_in_a_file_is_tried_when_it_is_planned(tmp_path: Path, function: str, parts: list[str]) -> None:
    path = tmp_path / "mine.py"
    path.write_text(MINE, encoding="utf-8")
    mine = {"symbols": 8, "parameters": {"by": 3}}
    run = Plan(check(config_of(task=mine | {"python": f"{path}:good"}))).runs["think"]
    assert run.files() == {"task": str(path)}
    text = told(config_of(task={"symbols": 8, "python": f"{path}:{function}"}))
    assert all(part in text for part in ["config: runs.think.task.python: ", *parts]), text
    absent = told(config_of(task=mine | {"python": f"{tmp_path}/absent.py:good"}))
    assert f"config: runs.think.task.python: {tmp_path}/absent.py: no such file" in absent
    unknown = told(config_of(task=mine | {"python": f"{path}:good", "parameters": {"bye": 3}}))
    assert "TypeError: good() got an unexpected keyword argument 'bye'" in unknown
