"""Plans stay small whatever is written: what is written out is counted first, what is compared is looked up."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, changed, default_config

from seedbed.config.load import check
from seedbed.config.run import Run
from seedbed.errors import SeedbedError
from seedbed.objectives.thinker import config as thinker
from seedbed.plan import Plan, expand, trunks
from seedbed.plan.forecast import forecast

DEFAULT = default_config()
STUDY = {"date": "2026-01-01", "title": "many", "base": "tiny"}
WSD = {**DEFAULT["runs"]["tiny"], "budget": {"steps": 1000}, "schedule": {"kind": "wsd"}}
TASK = "def flip(x, lengths, by=1):\n    return x\n"


def studying(*studies: dict) -> Plan:
    named = {f"s{number}": STUDY | study for number, study in enumerate(studies)}
    for study in named.values():
        study["vary"] = {key: list(values) for key, values in study.get("vary", {}).items()}
    return Plan(check(DEFAULT | {"runs": {"tiny": WSD}, "studies": named}))


def test_large_numbers_anywhere_are_planned_or_refused_in_little_memory(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(TASK)
    text = (ROOT / "tests/plan/bounded.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace("TASK", "task.py:flip"))
    done = subprocess.run(
        [sys.executable, ROOT / "tests/plan/bounded.py", "config.yaml", "768"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    made, refused = map(int, done.stdout.split())
    assert made > 100 and refused > 300


# --- counts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("studies", "told"),
    [
        ([{"vary": {"seed": range(10**6)}}], "studies.s0.vary: 1,000,000 runs; expected at most 5,000"),
        ([{"vary": {f"model.{key}": range(100) for key in "abc"}}], "studies.s0.vary: 1,000,000 runs"),
        (
            [{"vary": {f"model.k{key}": range(3) for key in range(100)}}],
            "vary: at least 1,000,000,000,000,000,000",
        ),
        (
            [{"vary": {"seed": range(3000)}}] * 2,
            "studies.s1: 6,001 runs, with the studies before",
        ),
        (
            [{"vary": {"seed": range(3000), "clip": [1], "log_every": [1], "data": ["order"]}}],
            "s0: 12,000 values",
        ),
        (
            [{"vary": {"seed": range(3000)}, "evaluate": ["perplexity"] * 20}],
            "s0: 60,000 evaluations of runs",
        ),
        ([{"base": None, "runs": ["tiny"] * 5001}], "studies.s0.runs: expected a list with a length of at most 5000"),
    ],
)
def test_what_studies_make_is_counted_before_it_is_made(
    studies: list[dict], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expand, "changed", lambda *_: pytest.fail("a run is made"))
    with pytest.raises(SeedbedError) as caught:
        studying(*studies)
    assert told in str(caught.value)


def test_models_are_counted_before_they_are_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expand, "find", lambda *_: pytest.fail("a model is looked at"))
    with pytest.raises(SeedbedError, match="studies.s0.vary.model: one more after 500 different models"):
        studying({"vary": {"model.hidden_size": list(range(4, 4 * 600, 4))}})
    with pytest.raises(SeedbedError, match="models: 200 different ones have 20,100 layers; expected at most 5,000"):
        studying({"vary": {"model.num_hidden_layers": list(range(1, 201))}})


def test_work_grows_with_the_number_of_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = dict.fromkeys(("validated", "equal", "content", "checksum"), 0)

    def counting(name: str, function):
        def counted(*inputs: object):
            counts[name] += 1
            return function(*inputs)

        return counted

    monkeypatch.setattr(expand, "validated", counting("validated", expand.validated))
    monkeypatch.setattr(expand, "content", counting("content", expand.content))
    monkeypatch.setattr(trunks, "sha256_of", counting("checksum", trunks.sha256_of))
    monkeypatch.setattr(Run, "__eq__", counting("equal", Run.__eq__))
    plan = studying({"vary": {"schedule.stable_ratio": [0.5, 0.9], "budget.steps": list(range(1001, 1201))}})
    text = forecast(plan)
    assert len(plan.runs) == 401 and len(plan.trunks_by_name) > 200
    assert counts["content"] == 401 and counts["validated"] == 2 + 400
    assert counts["equal"] <= 3 * 401 and counts["checksum"] <= 4 * 401
    assert len(text) < 401 * 1000  # not all runs in the line of each trunk


def test_many_runs_of_a_trunk_are_told_by_their_number() -> None:
    plan = studying({"vary": {"schedule.stable_ratio": [round(0.5 + run / 100, 2) for run in range(20)]}})
    (first, *_) = [line for line in forecast(plan).splitlines() if ": the first 500 steps" in line]
    assert first.count("stable_ratio") == 11 and first.endswith("stable_ratio=0.6 and 9 more, trained once")
    assert [plan.trunk_users[name].count for name in plan.trunks_by_name] == [
        sum(trunk in last.chain for last in plan.trunks.values()) for trunk in plan.trunks_by_name.values()
    ]


# --- single values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vary", "told"),
    [
        (
            {"optimizer": [{"lr": 1}]},
            "studies.s0.vary.optimizer: a list or mapping needs a label: found {'lr': 1}",
        ),
        (
            {"optimizer.lr": [float("nan")]},
            "studies.s0.vary.optimizer.lr: optimizer.lr: expected a finite number",
        ),
        ({"model.x": [float("inf")]}, "studies.s0.vary.model.x: model: expected finite numbers, found inf"),
        ({"precision": ["\ud800"]}, "studies.s0.vary.precision.0: expected text of whole characters"),
        ({"model.x": ["\ud800"]}, "studies.s0.vary.model.x.0: expected text of whole characters"),
        ({"model.x": ["x" * 10**6]}, "has 1000013 characters; expected at most 200"),
        (
            {"seed": [10**5000]},
            "studies.s0.vary.seed: expected numbers up to 1000000000000000000; found a number of thous",
        ),
        ({"a." * 200: [1]}, "studies.s0: vary: a key of 400 characters; expected at most 200"),
    ],
)
def test_values_to_vary_that_cannot_be_are_told(vary: dict, told: str) -> None:
    with pytest.raises(SeedbedError) as caught:
        studying({"vary": vary})
    assert told in str(caught.value)


def test_a_model_is_not_nested_without_end() -> None:
    nested = []
    for _ in range(50):
        nested = [nested]
    with pytest.raises(SeedbedError, match="models.tiny: expected at most 20 levels of mappings and lists"):
        check(changed(DEFAULT, "models.tiny.layer_types", nested))


def test_a_task_of_a_file_is_tried_once_and_on_short_sequences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "task.py").write_text(TASK)
    task = {"python": f"{tmp_path}/task.py:flip", "symbols": 9}
    run = {"objective": "thinker", "task": task, "length": "1Mi", "n_latent": 8, "n_step": 2, "batch": 8}
    tried, real = [], thinker.generate
    monkeypatch.setattr(thinker, "generate", lambda *inputs: tried.append(inputs[-1]) or real(*inputs))
    study = STUDY | {"base": "own", "vary": {"seed": list(range(20))}}
    Plan(check({"runs": {"own": run | {"budget": {"steps": 1}}}, "studies": {"many": study}}))
    assert tried == [1024]
