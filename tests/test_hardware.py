import subprocess
from pathlib import Path

import pytest

from seedbed import hardware


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def test_the_revision_is_that_of_the_librarys_own_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "environment" / "hardware.py"
    own.parent.mkdir()
    own.write_text("")
    monkeypatch.setattr(hardware, "__file__", str(own))
    revision = hardware.git_revision.__wrapped__  # without its cache
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "of somebody else")
    assert revision() is None
    git(tmp_path, "add", "environment")
    git(tmp_path, "commit", "-q", "-m", "of the library")
    assert revision() == git(tmp_path, "rev-parse", "HEAD")
