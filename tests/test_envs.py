"""The pins say one thing in each of their forms."""

import re
import tomllib

import yaml
from support import ROOT

PIN = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!_-]+")


def pins(name: str) -> list[str]:
    lines = (ROOT / "envs" / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-r "))]


def test_every_requirement_is_an_exact_version_without_hashes() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        assert all(PIN.fullmatch(line) for line in pins(name))


def test_conda_has_the_same_pins() -> None:
    environment = yaml.safe_load((ROOT / "envs" / "seedbed.yaml").read_text(encoding="utf-8"))
    (inner,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert inner == pins("requirements.txt")


def test_what_the_package_needs_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in pins("requirements.txt")}
    needed = {re.match(r"[A-Za-z0-9._-]+", line)[0].lower() for line in project["dependencies"]}
    assert needed <= pinned


def test_the_slurm_plugin_is_new_enough() -> None:
    (pin,) = [line for line in pins("requirements.txt") if line.startswith("snakemake-executor-plugin-slurm==")]
    assert tuple(map(int, pin.split("==")[1].split("."))) >= (2, 7, 1)


def test_no_two_requirements_files_disagree() -> None:
    assert not {line.split("==")[0] for line in pins("requirements.txt")} & {
        line.split("==")[0] for line in pins("requirements-dev.txt")
    }
