"""Loss curves that are committed: whatever changes what a run learns shows here.

`GOLDEN=write python -m pytest tests/train/test_golden.py` writes them anew, after a change that means to.
"""

import json
import os
from pathlib import Path

import pytest
from support import icae_spec, thinker_spec
from training import Runs, learned, run_spec

GOLDEN = Path(__file__).parent / "golden.json"
CASES = {
    "lm": ({}, {}),
    "lm on two ranks": ({}, {"processes": 2}),
    "gpt2": ({"model": {"family": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2}}, {}),
    "recurrence": ({"data": "order", "recurrence": {"work_size": 8, "cache_size": 12, "stop_gradient_step": 2}}, {}),
    "icae": ({"objective": "icae", "min_seq_len": 8}, {}),
    "thinker": ({"objective": "thinker", "curriculum": {"kind": "uniform"}, "n_latent": [2, 3], "n_step": [1, 3]}, {}),
}
SPECS = {"lm": run_spec, "icae": icae_spec, "thinker": thinker_spec}


@pytest.mark.parametrize("case", CASES)
def test_the_losses_are_those_committed(runs: Runs, tmp_path: Path, case: str) -> None:
    changes, options = CASES[case]
    spec = SPECS[changes.get("objective", "lm")](**changes)
    losses = [line["loss"] for line in learned(runs.train(tmp_path / "run", spec, **options))]
    known = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("GOLDEN") == "write":
        GOLDEN.write_text(json.dumps(known | {case: losses}, indent=1) + "\n")
        return
    # Other processors add in another order.
    assert losses == pytest.approx(known[case], rel=1e-4)
