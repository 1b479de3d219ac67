"""A loss that jumps: the run goes back, leaves out what it read, and goes on."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from support import change, contents
from training import Runs, learned, run_spec, weights

from seedbed.checksums import described
from seedbed.data.tokens import TokenSplit, Windows
from seedbed.files import read_json

SPIKES = {"window": 8, "quantile": 0.5, "factor": 1.15, "every": 10, "max_rollbacks": 1}
SPOILED = 26  # the batch that is noise
SPEC = {
    "budget": {"steps": 40},
    "schedule": {"kind": "constant"},
    "log_every": 4,
    "validation": {"every": 4, "tokens": 1000},
}


@pytest.fixture(scope="module")
def spoiled(tokens: Path, tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The tokens with noise in place of one batch."""
    folder = tmp_path_factory.mktemp("spoiled") / "tokens"
    shutil.copytree(tokens, folder)
    spoil(folder, range(8 * SPOILED, 8 * SPOILED + 8))
    return Runs(folder, tokenizer)


def spoil(folder: Path, numbers: range) -> None:
    """Put noise where these sequences of a training with windows of 32 are read."""
    windows, generator = Windows(TokenSplit(folder, "train"), 32, seed=0), np.random.default_rng(0)
    for number in numbers:
        window = windows.window(number)
        for part in (folder / "shards").glob("train*.bin"):
            ids = np.fromfile(part, dtype="<u2")
            for start in np.flatnonzero(ids == window[0]):
                if np.array_equal(ids[start : start + 33], window):
                    ids[start : start + 33] = generator.integers(0, 300, 33)
            ids.tofile(part)
    splits = contents(folder / "index.json")["splits"]
    for shard in splits["train"]["shards"]:
        shard |= described(folder / "shards" / shard["file"])
    change(folder / "index.json", splits=splits)


def test_the_batch_of_a_spike_is_left_out(spoiled: Runs, tmp_path: Path) -> None:
    out = spoiled.train(tmp_path / "run", run_spec(**SPEC, spikes=SPIKES))
    (spike,) = read_json(out / "summary.json")["spikes"]
    assert (spike["step"], spike["back_to"], spike["skipped"]) == (SPOILED + 1, 20, 7)
    assert spike["loss"] > spike["limit"]
    lines = learned(out)
    assert [line["step"] for line in lines] == list(range(4, 41, 4))
    assert [line.get("skipped_batches") for line in lines] == [None] * 4 + [7] * 6
    undisturbed = learned(spoiled.train(tmp_path / "undisturbed", run_spec(**SPEC)))
    assert max(line["loss"] for line in lines[5:]) < max(line["loss"] for line in undisturbed[5:])
    assert lines[:4] == undisturbed[:4]


def test_a_run_killed_after_a_spike_ends_the_same(spoiled: Runs, tmp_path: Path) -> None:
    spec = run_spec(**SPEC, spikes=SPIKES)
    whole = spoiled.train(tmp_path / "whole", spec)
    for steps in (4, 7):
        out = tmp_path / f"killed-{steps}"
        training = spoiled.start(out, spec, checkpoint_steps=1)
        training.reach(steps)
        training.kill()
        spoiled.train(out, spec)
        assert weights(out) == weights(whole)
        assert learned(out) == learned(whole)
        assert read_json(out / "summary.json")["spikes"] == read_json(whole / "summary.json")["spikes"]


def test_two_ranks_and_zero_go_back_together(spoiled: Runs, tmp_path: Path) -> None:
    spec = run_spec(**SPEC, spikes=SPIKES)
    one = learned(spoiled.train(tmp_path / "one", spec))
    two = learned(spoiled.train(tmp_path / "two", spec, processes=2, zero_stage=2))
    for alone, together in zip(one, two, strict=True):
        assert alone == pytest.approx(together, rel=2e-3)


def test_a_loss_that_is_no_number_goes_back_until_that_is_enough(runs: Runs, tmp_path: Path) -> None:
    spec = run_spec(optimizer={"lr": 1e30}, clip=None, spikes=SPIKES)
    told = runs.fail(tmp_path / "run", spec)
    assert "rolling back to step 0 and skipping" in told
    assert "after 1 rollbacks; try a smaller optimizer.lr" in told
    assert "Traceback" not in told
