"""Nothing is lost and nothing is done twice, whenever and however a run is stopped."""

import json
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from training import STEPS, Runs, learned, run_spec, store, weights

from seedbed.checksums import sha256
from seedbed.files import read_json, read_jsonl
from seedbed.plan.trunks import trunk_at
from seedbed.records import sealed
from seedbed.runs import damage
from seedbed.train.checkpoints import step_of


@pytest.mark.parametrize(  # every two values of two of them meet once
    ("processes", "zero_stage", "precision"),
    [(1, 0, "fp32"), (2, 0, "bf16"), (1, 1, "bf16"), (2, 1, "fp32"), (1, 2, "fp32"), (2, 2, "bf16")],
)
def test_a_killed_run_ends_with_the_same_weights(
    runs: Runs, tmp_path: Path, processes: int, zero_stage: int, precision: str
) -> None:
    spec = run_spec(log_every=3, precision=precision)  # checkpoints fall between lines of metrics, too
    options = {"processes": processes, "zero_stage": zero_stage}
    whole = runs.train(tmp_path / "whole", spec, **options)
    out = tmp_path / "killed"
    training = runs.start(out, spec, **options, checkpoint_steps=1)
    training.reach(2)
    training.kill()
    assert not (out / "summary.json").exists()
    assert list(store(out).glob("step-*"))
    runs.train(out, spec, **options)
    assert "resumes at step" in Path(f"{out}.log").read_text()
    assert weights(out) == weights(whole)
    assert learned(out) == learned(whole)
    assert read_json(out / "summary.json")["identity"] == read_json(whole / "summary.json")["identity"]


def test_a_run_killed_at_twenty_random_moments_ends_with_the_same_weights(runs: Runs, tmp_path: Path) -> None:
    spec, generator = run_spec(budget={"steps": 400}), random.Random(0)
    whole = runs.train(tmp_path / "whole", spec)
    out, done = tmp_path / "killed", []
    for attempt in range(20):
        training = runs.start(out, spec, checkpoint_steps=1)
        if attempt % 4:
            training.reach((done[-1] if done else 0) + generator.randint(1, 12))
            time.sleep(generator.uniform(0, 0.05))  # in a step, or while a checkpoint is written
        else:
            time.sleep(generator.uniform(0, 1.5))  # while it starts
        training.kill()
        done.append(max((step_of(path) for path in out.glob("checkpoints/*/step-*")), default=0))
    assert done[-1] < 400
    assert len(set(done)) > 10  # it got on between the kills
    runs.train(out, spec)
    assert weights(out) == weights(whole)
    assert learned(out) == learned(whole)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(runs: Runs, finished: Path, tmp_path: Path) -> None:
    out = interrupted(runs, tmp_path / "damaged")
    newest = sorted(store(out).glob("step-*"))[-1]
    state = newest / "optimizer.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    runs.train(out, run_spec())
    assert f"{newest.name}: damaged checkpoint" in Path(f"{out}.log").read_text()
    assert weights(out) == weights(finished)
    assert learned(out) == learned(finished)


def test_a_damaged_result_is_made_again_from_the_last_checkpoint(runs: Runs, finished: Path, tmp_path: Path) -> None:
    out = shutil.copytree(finished, tmp_path / "damaged")
    file = store(out) / "final" / "model" / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    runs.train(out, run_spec())
    told = Path(f"{out}.log").read_text()
    assert (
        "final: damaged result: model/model.safetensors: found sha256" in told
        and "made again from the last checkpoint" in told
    )
    assert f"resumes at step {STEPS}" in told
    assert weights(out) == weights(finished) == sha256(file)
    assert learned(out) == learned(finished)
    assert damage(out) is None


@pytest.mark.parametrize("content", [b"", b'{"step": 1, "loss": 9', b"\xff\n"], ids=["empty", "cut", "no text"])
def test_damaged_live_metrics_change_nothing(runs: Runs, finished: Path, tmp_path: Path, content: bytes) -> None:
    out = interrupted(runs, tmp_path / "run")
    (store(out) / "metrics.jsonl").write_bytes(content)
    runs.train(out, run_spec())
    assert "resumes at step" in Path(f"{out}.log").read_text()
    assert weights(out) == weights(finished)
    assert learned(out) == learned(finished)


def test_what_is_no_checkpoint_of_the_run_is_told_and_passed_over(runs: Runs, finished: Path, tmp_path: Path) -> None:
    out = interrupted(runs, tmp_path / "run")
    root, newest = store(out), sorted(store(out).glob("step-*"))[-1]
    manifests = {"{}": "has no key 'checksum'", "null": "found NoneType", json.dumps(sealed({"step": "3"})): "missing"}
    for number, content in enumerate(manifests, 1):
        folder = shutil.copytree(newest, root / f"step-{100 + number:08d}")
        (folder / "manifest.json").write_text(content)
    (root / "step-abc").mkdir()
    (root / ".step-00000001.x.partial").mkdir()
    runs.train(out, run_spec())
    told = Path(f"{out}.log").read_text()
    for number, problem in enumerate(manifests.values(), 1):
        (line,) = [line for line in told.splitlines() if f"step-{100 + number:08d}" in line]
        assert problem in line and line.endswith("skipped")
    assert f"{root}/step-abc: not of a training; skipped" in told
    assert f"{root}/.step-00000001.x.partial: a checkpoint that was not finished; removed" in told
    assert f"resumes at step {step_of(newest)}" in told
    assert weights(out) == weights(finished)
    assert learned(out) == learned(finished)


def interrupted(runs: Runs, out: Path) -> Path:
    """A run that was killed after some steps, with a checkpoint of each."""
    training = runs.start(out, run_spec(), checkpoint_steps=1)
    training.reach(6)
    training.kill()
    return out


@pytest.mark.parametrize(("processes", "number"), [(1, signal.SIGTERM), (1, signal.SIGUSR1), (2, signal.SIGUSR1)])
def test_a_signal_saves_before_it_ends(runs: Runs, tmp_path: Path, processes: int, number: int) -> None:
    out, spec = tmp_path / "stopped", run_spec(budget={"steps": 2000})
    training = runs.start(out, spec, processes=processes)
    training.reach(2)
    training.kill(number)
    assert [rank.exitcode for rank in training.ranks] == [1] * processes
    (saved,) = store(out).glob("step-*")
    step = step_of(saved)
    assert f"stopped by a signal after step {step}; the same command resumes it" in training.messages
    assert "Traceback" not in training.messages
    assert step < 2000
    assert [line["step"] for line in read_jsonl(store(out) / "metrics.jsonl")] == list(range(1, step + 1))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"processes": 2, "zero_stage": 2}, {"processes": 1}),
        ({"processes": 1}, {"processes": 2, "zero_stage": 1}),
        ({"processes": 2, "zero_stage": 1}, {"processes": 1, "zero_stage": 3}),
        ({"processes": 2, "zero_stage": 3}, {"processes": 1, "zero_stage": 2, "offload": "cpu"}),
    ],
    ids=str,
)
def test_it_goes_on_on_other_processes_and_zero_stages(
    runs: Runs, finished: Path, tmp_path: Path, before: dict, after: dict
) -> None:
    out = tmp_path / "moved"
    training = runs.start(out, run_spec(), **before, checkpoint_steps=2)
    training.reach(6)
    training.kill()
    runs.train(out, run_spec(), **after)
    assert "resumes at step" in Path(f"{out}.log").read_text()
    for one, two in zip(learned(finished), learned(out), strict=True):
        assert one == pytest.approx(two, rel=1e-3)


def test_checkpoints_are_made_by_steps_and_as_many_kept_as_asked(runs: Runs, tmp_path: Path) -> None:
    out = runs.train(tmp_path / "run", run_spec(), checkpoint_steps=2, checkpoint_keep=3)
    assert [step_of(path) for path in sorted(store(out).glob("step-*"))] == [8, 10, 12]


def test_a_checkpoint_of_another_run_is_told(runs: Runs, finished: Path, tmp_path: Path) -> None:
    other = run_spec(optimizer={"lr": 2e-2})
    out = tmp_path / "other"
    mine = runs.job(out, other).store
    shutil.copytree(store(finished), mine, ignore=shutil.ignore_patterns("final"))
    told = runs.fail(out, other)
    assert "step-00000012: belongs to another run" in told
    assert "Traceback" not in told


# --- longer budgets, trunks and branches -----------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [{"kind": "constant"}, {"kind": "wsd", "stable_ratio": 0.5, "warmup_steps": 2}])
def test_a_longer_budget_continues_a_finished_run(runs: Runs, tmp_path: Path, schedule: dict) -> None:
    short, long = (run_spec(schedule=schedule, budget={"steps": steps}, log_every=4) for steps in (13, 26))
    out = runs.train(tmp_path / "grown", short)
    runs.train(out, long)
    whole = runs.train(tmp_path / "whole", long)
    kept = {"constant": 13, "wsd": 6}[schedule["kind"]]
    assert f"resumes at step {kept}" in Path(f"{out}.log").read_text()
    assert weights(out) == weights(whole)
    assert learned(out) == learned(whole)
    assert read_json(out / "summary.json")["own_tokens"] == (26 - kept) * 256
    assert read_json(whole / "summary.json")["own_tokens"] == 26 * 256


def test_a_cosine_cannot_be_continued_and_starts_over(runs: Runs, tmp_path: Path) -> None:
    out = runs.train(tmp_path / "run", run_spec())
    runs.train(out, run_spec(budget={"steps": 14}))
    assert "resumes at" not in Path(f"{out}.log").read_text()


@pytest.mark.parametrize("options", [{}, {"processes": 2, "zero_stage": 1}], ids=str)
def test_branches_of_a_trunk_equal_runs_of_their_own(runs: Runs, tmp_path: Path, options: dict) -> None:
    specs = {
        ratio: run_spec(schedule={"kind": "wsd", "stable_ratio": ratio, "warmup_steps": 2}, budget={"steps": 20})
        for ratio in (0.5, 0.7)
    }
    trunk = trunk_at(specs[0.7], 20, 10)
    runs.train(tmp_path / "trunk", trunk.spec, until=10, **options)
    for ratio, spec in specs.items():
        grown = runs.train(tmp_path / f"grown-{ratio}", spec, trunk=tmp_path / "trunk" / "10", **options)
        whole = runs.train(tmp_path / f"whole-{ratio}", spec, **options)
        assert weights(grown) == weights(whole)
        assert learned(grown) == learned(whole)
        assert read_json(grown / "summary.json")["own_tokens"] == 10 * 256


def test_a_trunk_of_another_run_is_told(runs: Runs, tmp_path: Path) -> None:
    spec = run_spec(schedule={"kind": "constant"})
    runs.train(tmp_path / "trunk", trunk_at(spec, STEPS, 4).spec, until=4)
    told = runs.fail(tmp_path / "run", run_spec(schedule={"kind": "constant"}, seed=1), trunk=tmp_path / "trunk" / "4")
    assert "trunk/4: step 4 of another run; expected one of small" in told


def test_a_run_starts_from_the_weights_of_another(runs: Runs, finished: Path, tmp_path: Path) -> None:
    out = runs.train(tmp_path / "run", run_spec(init={"run": "other"}), init=finished / "model")
    assert learned(out)[0]["loss"] < learned(finished)[6]["loss"]
    assert read_json(out / "run.json")["inputs"]["init"] == weights(finished)


def test_a_run_starts_from_a_step_of_another_with_or_without_its_optimizer(runs: Runs, tmp_path: Path) -> None:
    runs.train(tmp_path / "trunk", run_spec(), until=6)
    state = tmp_path / "trunk" / "6"
    starts = {}
    for with_optimizer in (False, True):
        spec = run_spec(init={"run": "other", "step": 6, "optimizer": with_optimizer}, schedule={"kind": "constant"})
        starts[with_optimizer] = learned(runs.train(tmp_path / f"with-{with_optimizer}", spec, init=state))
    assert starts[True][0]["loss"] == starts[False][0]["loss"]  # the same weights,
    assert starts[True][1]["loss"] != starts[False][1]["loss"]  # and then another update
    assert starts[True][0]["loss"] < learned_of_trunk(state)[3]["loss"]


def learned_of_trunk(state: Path) -> list[dict]:
    return read_jsonl(state / "metrics.jsonl")
