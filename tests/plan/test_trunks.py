"""Which updates runs share, by plans of runs of 100 steps and their like."""

from typing import Any

import pytest
from support import default_config

from seedbed.config.load import check
from seedbed.errors import SeedbedError
from seedbed.plan import Plan
from seedbed.plan.specs import study_spec, trunk_spec
from seedbed.plan.trunks import Trunk
from seedbed.train.schedules import lr_ratio

DEFAULT = default_config()

BATCH = DEFAULT["runs"]["tiny"]["batch_tokens"]
OTHER_CORPUS = DEFAULT["corpora"]["news"] | {"seed": 1}


def wsd(ratio: float, **fields: object) -> dict:
    return {"schedule": {"kind": "wsd", "stable_ratio": ratio} | fields}


def constant(steps: int = 100, **fields: object) -> dict:
    return {"schedule": {"kind": "constant"}, "budget": {"steps": steps}} | fields


def plan(**runs: dict[str, Any]) -> Plan:
    """Runs that differ from one of 100 steps in what is given."""
    base = DEFAULT["runs"]["tiny"] | {"batch_tokens": BATCH, "budget": {"steps": 100}, "schedule": {"kind": "cosine"}}
    corpora = DEFAULT["corpora"] | {"others": OTHER_CORPUS}
    written = {name: base | changes for name, changes in runs.items()}
    return Plan(check(DEFAULT | {"corpora": corpora, "runs": written, "studies": {}}))


def chains(made: Plan) -> dict[str, list[int]]:
    """Where the trunks end that each run grows from, the last one first."""
    return {name: [trunk.step for trunk in last.chain] for name, last in made.trunks.items()}


def updates(made: Plan) -> int:
    """Steps that are computed when every trunk is computed once."""
    own = sum(trunk.step - (trunk.before.step if trunk.before else 0) for trunk in made.trunks_by_name.values())
    starts = {name: made.trunks[name].step if name in made.trunks else 0 for name in made.runs}
    return own + sum(run.step_count() - starts[name] for name, run in made.runs.items())


# --- what is shared ---------------------------------------------------------------------------------------------------


def test_decays_that_start_at_different_places_share_a_chain() -> None:
    made = plan(half=wsd(0.5), more=wsd(0.7), most=wsd(0.9))
    assert chains(made) == {"half": [50], "more": [70, 50], "most": [70, 50]}
    assert len(made.trunks_by_name) == 2
    assert updates(made) == 0.6 * 300
    assert made.trunks["more"] == made.trunks["most"]
    assert made.trunks["half"] == made.trunks["more"].before


def test_a_trunk_has_the_constant_learning_rate_of_its_branches() -> None:
    made = plan(half=wsd(0.5, warmup_steps=10), most=wsd(0.9, warmup_steps=10))
    (trunk,) = made.trunks_by_name.values()
    assert trunk.spec["budget"] == {"tokens": None, "steps": 50, "epochs": None}
    for run in made.runs:
        schedule = made.runs[run].spec()["schedule"]
        for step in range(50):
            assert lr_ratio(trunk.spec["schedule"], step, 50) == lr_ratio(schedule, step, 100)
    spec = trunk_spec(made, trunk.name)
    assert not {"corpus", "tokenizer"} & set(spec)
    assert {key: value for key, value in spec.items() if key not in ("budget", "schedule")} == {
        key: value for key, value in made.runs["half"].spec().items() if key not in ("budget", "schedule")
    }


def test_shapes_of_decay_share_what_comes_before() -> None:
    shapes = {"linear": {}, "cosine": {}, "sqrt": {"min_lr_ratio": 0.2}, "exponential": {"min_lr_ratio": 0.1}}
    made = plan(**{shape: wsd(0.8, decay=shape, **fields) for shape, fields in shapes.items()})
    assert chains(made) == {shape: [80] for shape in shapes}
    assert len(made.trunks_by_name) == 1 and updates(made) == 80 + 4 * 20


def test_a_longer_constant_run_goes_on_from_the_end_of_a_shorter_one() -> None:
    made = plan(short=constant(40), long=constant(100), longest=constant(250))
    assert chains(made) == {"short": [40], "long": [100, 40], "longest": [100, 40]}
    assert updates(made) == 250


def test_a_constant_run_and_one_that_decays_share() -> None:
    made = plan(flat=constant(100), half=wsd(0.5))
    assert chains(made) == {"flat": [50], "half": [50]}
    # A decay that starts after the end of the constant run grows from that end.
    made = plan(flat=constant(30), half=wsd(0.5))
    assert chains(made) == {"flat": [30], "half": [30]}


def test_budgets_share_however_they_are_written() -> None:
    made = plan(steps=constant(), tokens=constant() | {"budget": {"tokens": 60 * 2048}})
    assert chains(made) == {"steps": [60], "tokens": [60]}


def test_budgets_of_different_length_share_up_to_the_first_decay() -> None:
    made = plan(short=wsd(0.5), long=wsd(0.8) | {"budget": {"steps": 200}})
    assert chains(made) == {"short": [50], "long": [50]}


def test_a_warmup_is_shared_when_it_has_the_same_steps() -> None:
    short, long = wsd(0.5, warmup_ratio=0.1), wsd(0.5, warmup_ratio=0.05) | {"budget": {"steps": 200}}
    assert chains(plan(short=short, long=long, steps=wsd(0.6, warmup_steps=10))) == {
        "short": [50],
        "long": [60, 50],
        "steps": [60, 50],
    }


def test_equal_plateaus_share_until_the_shorter_one_ends() -> None:
    schedule = {"kind": "plateau", "patience": 3}
    made = plan(short={"schedule": schedule, "budget": {"steps": 60}}, long={"schedule": schedule})
    assert chains(made) == {"short": [60], "long": [60]}
    assert made.trunks["long"].spec["schedule"]["kind"] == "plateau"


# --- what is not ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"optimizer": DEFAULT["runs"]["tiny"]["optimizer"] | {"lr": 1e-3}},
        {"corpus": "others"},
        {"batch_tokens": 4096},
        {"seq_len": 128},
        {"clip": None},
        {"data": "order"},
        {"precision": "fp32"},
        {"spikes": {}},
        {"validation": {"every": 5}},
        {"schedule": {"kind": "wsd", "stable_ratio": 0.7, "warmup_steps": 10}},
        {"schedule": {"kind": "cosine"}},
        {"schedule": {"kind": "plateau"}},
    ],
    ids=lambda changes: ",".join(f"{key}={value}" for key, value in changes.items())[:40],
)
def test_runs_that_differ_in_anything_else_share_nothing(changes: dict) -> None:
    made = plan(one=wsd(0.5), other=wsd(0.7) | changes)
    assert made.trunks == {} and made.trunks_by_name == {}
    assert updates(made) == 200


def test_a_share_of_warmup_at_different_lengths_shares_nothing() -> None:
    short, long = wsd(0.5, warmup_ratio=0.1), wsd(0.5, warmup_ratio=0.1) | {"budget": {"steps": 200}}
    assert plan(short=short, long=long).trunks == {}


def test_cosines_share_nothing() -> None:
    for kind, others in (("cosine", {}), ("linear", {}), ("cosine-restarts", {"cycles": 2})):
        schedule = {"kind": kind} | others
        assert plan(short={"schedule": schedule, "budget": {"steps": 50}}, long={"schedule": schedule}).trunks == {}


def test_epochs_of_a_corpus_that_is_not_counted_have_no_trunks() -> None:
    epochs = {"budget": {"epochs": 1.0}}
    made = plan(half=wsd(0.5) | epochs, most=wsd(0.9) | epochs, counted=wsd(0.5))
    assert made.trunks == {}
    assert list(plan(half=wsd(0.5) | epochs, a=wsd(0.5), b=wsd(0.6)).trunks) == ["a", "b"]


def test_one_run_alone_has_no_trunk() -> None:
    assert plan(half=wsd(0.5), flat=constant(100, seed=1)).trunks == {}


# --- runs that start from another -------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [{"kind": "cosine"}, {"kind": "constant"}, {"kind": "wsd", "stable_ratio": 0.1}])
def test_where_another_run_starts_the_origin_has_a_trunk(schedule: dict) -> None:
    made = plan(origin={"schedule": schedule}, branch={"init": {"run": "origin", "step": 30}, "seed": 1})
    assert chains(made) == {"origin": [30]}
    start = made.initial_trunk(made.runs["branch"].init)
    assert start.name == made.trunks["origin"].name
    assert (start.common, start.step) == (made.trunks["origin"].common, 30)
    spec = trunk_spec(made, start.name)
    if schedule["kind"] == "constant":
        assert spec["budget"]["steps"] == 30
    else:  # the learning rate hangs on the length of the whole run
        assert (spec["budget"], spec["schedule"]) == (
            made.runs["origin"].spec()["budget"],
            made.runs["origin"].spec()["schedule"],
        )


def test_a_start_at_the_last_step_of_a_run_is_a_trunk_too() -> None:
    made = plan(origin={}, branch={"init": {"run": "origin", "step": 100, "optimizer": True}, "seed": 1})
    assert chains(made) == {"origin": [100]}


def test_a_start_from_the_end_of_a_run_needs_no_trunk() -> None:
    made = plan(origin={}, branch={"init": {"run": "origin"}, "seed": 1})
    assert made.trunks == {} and made.initial_trunk(made.runs["branch"].init) is None


def test_everyone_who_comes_by_a_start_grows_from_it() -> None:
    branch = {"init": {"run": "half", "step": 20}, "seed": 1}
    made = plan(half=wsd(0.5), most=wsd(0.9), branch=branch)
    assert chains(made) == {"half": [50, 20], "most": [50, 20]}
    assert made.initial_trunk(made.runs["branch"].init).name == made.trunks["half"].before.name


def test_a_start_within_a_decay_lies_on_its_own_branch_alone() -> None:
    made = plan(half=wsd(0.5), most=wsd(0.9), branch={"init": {"run": "half", "step": 80}, "seed": 1})
    assert chains(made) == {"half": [80, 50], "most": [50]}
    assert made.initial_trunk(made.runs["branch"].init).name == made.trunks["half"].name


def test_runs_that_start_alike_share_and_runs_that_do_not_share_nothing() -> None:
    late, early = ({"init": {"run": "origin", "step": step}} for step in (30, 20))
    assert chains(plan(origin={}, a=wsd(0.5) | late, b=wsd(0.7) | late))["b"] == [50]
    assert list(plan(origin={}, a=wsd(0.5) | late, b=wsd(0.7) | early).trunks) == ["origin"]


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        ({}, "config: runs.branch.init.step: 'origin' has 100 steps; found 101"),
        (
            {"budget": {"epochs": 2.0}},
            "config: runs.branch.init.step: the steps of 'origin' are not known; expected a budget in tokens",
        ),
    ],
)
def test_a_start_beyond_the_steps_of_a_run_is_one_line(origin: dict, told: str) -> None:
    with pytest.raises(SeedbedError) as caught:
        plan(origin=origin, branch={"init": {"run": "origin", "step": 101}, "seed": 1})
    assert str(caught.value) == told


# --- names ------------------------------------------------------------------------------------------------------------


def names(made: Plan) -> set[str]:
    return set(made.trunks_by_name)


def test_a_name_tells_the_step_and_nothing_that_a_shell_minds() -> None:
    for name, trunk in plan(half=wsd(0.5), more=wsd(0.7), most=wsd(0.9)).trunks_by_name.items():
        common, step = name.split("/")
        assert step == str(trunk.step) and len(common) == 12 and int(common, 16) >= 0
        assert isinstance(trunk, Trunk) and trunk.common.startswith(common)


def test_trunks_keep_their_names_when_a_run_is_renamed_or_another_comes() -> None:
    runs = {"half": wsd(0.5), "most": wsd(0.9), "branch": {"init": {"run": "half", "step": 20}, "seed": 1}}
    before = plan(**runs)
    renamed = plan(one=wsd(0.5), two=wsd(0.9), three={"init": {"run": "one", "step": 20}, "seed": 1})
    assert names(renamed) == names(before)
    specs = {name: trunk_spec(before, name) for name in names(before)}
    others = {"apart": {"seed": 3}, "later": wsd(0.7), "ends": wsd(0.95, decay="sqrt"), "flat": constant(70)}
    more = plan(**runs, **others)
    assert names(more) > names(before)
    assert {name: trunk_spec(more, name) for name in names(before)} == specs
    assert names(plan(**dict(reversed(list(runs.items()))))) == names(before)


def test_a_study_names_the_trunks_below_its_runs() -> None:
    base = DEFAULT["runs"]["tiny"] | wsd(0.5) | {"budget": {"steps": 100}}
    study = DEFAULT["studies"]["batch-size"] | {"vary": {"schedule.stable_ratio": [0.5, 0.7, 0.9]}, "evaluate": []}
    made = Plan(check(DEFAULT | {"runs": {"base": base}, "studies": {"decay": study | {"base": "base", "plots": []}}}))
    assert [name.split("/")[1] for name in made.study_trunks("decay")] == ["50", "70"]
    assert set(made.study_trunks("decay")) == names(made) == set(study_spec(made, "decay")["trunks"])
