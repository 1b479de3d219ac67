"""The chain through a real SLURM, where one answers (tests/workflow/start_slurm.sh brings up one node)."""

import shutil
import subprocess

import pytest

from seedbed.files import read_json


def slurm_answers() -> bool:
    if not shutil.which("sinfo"):
        return False
    try:
        states = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, timeout=10).stdout
    except subprocess.TimeoutExpired:
        return False
    return "idle" in states


@pytest.mark.skipif(not slurm_answers(), reason="no SLURM answers here")
def test_the_chain_completes_on_a_cluster(project) -> None:
    options = ("--workflow-profile", "profiles/slurm")
    done = project.run(*options, "--set-resources", "pretrain:processes=2")
    assert done.returncode == 0, done.stdout
    assert read_json(project.folder / "results" / "runs" / "tiny" / "summary.json")["devices"] == 2
    assert (project.folder / "results" / "milestones.html").exists()
    assert project.planned() == {}
