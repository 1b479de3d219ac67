"""A run is measured by evaluations for what it leaves, and by no others."""

from pathlib import Path

import pytest
from support import leave_run

from seedbed.errors import SeedbedError
from seedbed.evaluate.job import measured, subject_of

SPEC = {"precision": "fp32"}


@pytest.mark.parametrize(
    ("objective", "kind", "told"),
    [
        ("icae", "perplexity", "is of kind 'icae'; perplexity measures models of kind 'causal-lm'"),
        ("lm", "reconstruction", "is of kind 'causal-lm'; reconstruction measures models of kind 'icae'"),
        ("lm", "task-accuracy", "is of kind 'causal-lm'; task-accuracy measures models of kind 'thinker'"),
    ],
)
def test_a_run_of_another_kind_is_one_line(tmp_path: Path, objective: str, kind: str, told: str) -> None:
    leave_run(tmp_path, [], {"objective": objective})
    with pytest.raises(SeedbedError, match=told):
        subject_of(SPEC | {"kind": kind}, tmp_path, None, None, 0)


def test_an_input_that_nobody_reads_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SeedbedError, match="input 'tokenz': samples reads none of this name; did you mean 'tokens'"):
        measured("samples", SPEC | {"kind": "samples"}, None, tmp_path / "out.json", tokenz=[tmp_path])
