"""The choice of a micro-batch on a GPU, with the GPU left out."""

from pathlib import Path

import pytest
from training import Runs, run_spec

from seedbed.train import micro_batch
from seedbed.train.micro_batch import chosen_micro_batch


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes that were tried on a GPU that holds up to four sequences."""
    sizes = []

    def fits(job: object, objective: object, precision: str, size: int) -> bool:
        sizes.append(size)
        return size <= 4

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "a GPU")
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 0)
    monkeypatch.setattr(micro_batch, "smallest_of_ranks", lambda size: size)
    monkeypatch.setattr(micro_batch, "fits", fits)
    return sizes


def test_the_largest_that_fits_is_found_once_and_remembered(runs: Runs, tmp_path: Path, tried: list[int]) -> None:
    job = runs.job(tmp_path / "run", run_spec(batch_tokens=16 * 32))
    job.store.mkdir(parents=True)
    assert chosen_micro_batch(job, None, None, "bf16") == 4
    assert tried and set(tried) <= {1, 2, 4, 8, 16}
    tried.clear()
    assert chosen_micro_batch(job, None, None, "bf16") == 4
    assert tried == []


def test_another_way_of_computing_is_another_search(runs: Runs, tmp_path: Path, tried: list[int]) -> None:
    spec = run_spec(batch_tokens=16 * 32)
    job = runs.job(tmp_path / "run", spec)
    job.store.mkdir(parents=True)
    chosen_micro_batch(job, None, None, "bf16")
    tried.clear()
    assert chosen_micro_batch(runs.job(tmp_path / "run", spec, processes=8), None, None, "bf16") == 2
    assert tried


def test_what_the_execution_says_is_taken(runs: Runs, tmp_path: Path, tried: list[int]) -> None:
    assert chosen_micro_batch(runs.job(tmp_path / "run", run_spec(), micro_batch=2), None, None, "fp32") == 2
    assert tried == []
