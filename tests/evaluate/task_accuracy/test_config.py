import pytest
from support import changed

from seedbed.config.load import check
from seedbed.errors import SeedbedError
from seedbed.evaluate.task_accuracy.config import TaskAccuracy
from seedbed.plan import Plan
from seedbed.plan.specs import evaluation_spec

RUN = {
    "objective": "thinker",
    "task": {"name": "copy", "symbols": 4},
    "length": 8,
    "model": {"hidden_size": 8, "num_attention_heads": 2, "max_latent": 4, "position_range": 20},
    "n_latent": [2, 3],
    "n_step": 2,
    "batch": 4,
    "budget": {"steps": 1},
    "optimizer": {"lr": 1e-2},
}
STUDY = {"date": "2026-01-01", "title": "s", "base": "copy", "evaluate": ["grid"]}
PLOTS = [{"kind": kind, "evaluation": "grid"} for kind in TaskAccuracy.plots]
CONFIG = {
    "runs": {"copy": RUN},
    "evaluations": {"grid": {"kind": "task-accuracy"}},
    "studies": {"s": STUDY | {"plots": PLOTS}},
}
SUM = {"name": "addition", "base": 10}
ROWS = [{"read_input": True, "mem_write": True}, {"mem_lookup": True, "output": True}]


def plan_of(asked: dict, **run: object) -> Plan:
    config = changed(CONFIG, "evaluations.grid", CONFIG["evaluations"]["grid"] | asked)
    return Plan(check(changed(config, "runs.copy", RUN | run)))


def model(**changes: object) -> dict:
    return {"model": RUN["model"] | changes}


FITTING = {
    "nothing": ({}, {}),
    "as much as there is": ({"lengths": [4, 20], "n_latent": 4, "n_step": 99, "at": {"n_latent": 4}}, {}),
    "without tables": ({"lengths": 500}, model(positions="rope", position_range=None)),
    "rows": ({"n_step": [2], "at": {"n_step": 2}}, model(flow=ROWS)),
    "a sum": ({"lengths": 9}, {"task": SUM}),
}


@pytest.mark.parametrize("kind", FITTING)
def test_what_fits_is_planned(kind: str) -> None:
    asked, run = FITTING[kind]
    plan_of(asked, **run)


OWN = {"n_latent": None, "model": {**RUN["model"], "latents": "position", "max_latent": None}}
TOLD = {
    "length": ({"lengths": [4, 21]}, {}, "lengths: length 21 needs 21 positions; the model has 20"),
    "input of a sum": ({"lengths": 10}, {"task": SUM}, "lengths: length 10 needs 22 positions; the model has 20"),
    "output": ({"lengths": 9}, model(position_range=None), "lengths: length 9 needs 9 positions; the model has 8"),
    "latents": ({"n_latent": [1, 5]}, {}, "n_latent: found 5; the model has 4 latents, see max_latent"),
    "a latent": ({"at": {"n_latent": 5}}, {}, "at.n_latent: found 5; the model has 4 latents, see max_latent"),
    "own": ({"n_latent": 1}, OWN, "n_latent: found 1, expected none; the model has as many latents as positions"),
    "own at": ({"at": {"n_latent": 1}}, OWN, "at.n_latent: found 1, expected none; the model has as many"),
    "steps": ({"n_step": [2, 3]}, model(flow=ROWS), "n_step: found 3, expected the 2 rows of model.flow"),
    "step": ({"at": {"n_step": 1}}, model(flow=ROWS), "at.n_step: found 1, expected the 2 rows of model.flow"),
    "by symbol": ({"at": {"steps_per_symbol": 1}}, model(flow=ROWS), "at.steps_per_symbol: has no effect with a flow"),
    "both": (
        {"at": {"n_step": 1, "steps_per_symbol": 2}},
        {},
        "at: n_step and steps_per_symbol exclude each other; expected one of them",
    ),
}


@pytest.mark.parametrize("kind", TOLD)
def test_what_a_run_cannot_answer_is_one_line(kind: str) -> None:
    asked, run, told = TOLD[kind]
    with pytest.raises(SeedbedError) as caught:
        plan_of(asked, **run)
    message = str(caught.value)
    assert message.startswith(f"config: evaluations.grid.{told}") and "\n" not in message
    assert kind == "both" or message.endswith("(run 'copy')")


def test_ranges_are_written_out() -> None:
    plan = plan_of({"lengths": {"first": 2, "last": 8, "step": 3}, "n_step": 3})
    found = evaluation_spec(plan, "grid")
    assert (found["lengths"], found["n_latent"], found["n_step"]) == ([2, 5, 8], None, [3])
