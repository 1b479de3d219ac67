from pathlib import Path

import pytest
from training import Runs, run_spec


@pytest.fixture(scope="session")
def runs(tokens: Path, tokenizer: Path, contexts: Path) -> Runs:
    return Runs(tokens, tokenizer, contexts)


@pytest.fixture(scope="session")
def finished(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process that nothing disturbed."""
    return runs.train(tmp_path_factory.mktemp("runs") / "whole", run_spec())
