"""The example of docs/extending.md, run as it stands there: kinds of a package of its own, to their report."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support import ROOT

from seedbed.files import read_json, read_jsonl

BLOCK = re.compile(r"^```\w+\n(?:#|<!--) (\S+)(?: -->)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def written_out(folder: Path) -> None:
    """The files of the page; what its pyproject.toml says of entry points as pip writes it down."""
    for name, text in BLOCK.findall((ROOT / "docs" / "extending.md").read_text(encoding="utf-8")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installed = folder / f"{project['name']}-{project['version']}.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".format(**project))
    groups = [
        "\n".join([f"[{group}]", *(f"{kind} = {place}" for kind, place in kinds.items())])
        for group, kinds in project["entry-points"].items()
    ]
    (installed / "entry_points.txt").write_text("\n".join(groups))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that has nothing but the files of the page, and the results of the workflow."""
    folder = tmp_path_factory.mktemp("extending")
    written_out(folder)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "2"]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run(
        [*command, "--configfile", "config.yaml"], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "results"


def test_the_objective_trains_and_is_measured(finished: Path) -> None:
    assert len(list((finished / "runs").iterdir())) == 2
    run = finished / "runs" / "line"
    summary, metrics = read_json(run / "summary.json"), read_jsonl(run / "metrics.jsonl")
    assert (summary["unit"], summary["samples"], summary["parameters"]) == ("samples", 40 * 64, 2)
    losses = [line["loss"] for line in metrics]
    assert losses[-1] < losses[0] / 10
    assert abs(read_json(finished / "evaluations" / "line" / "slope.json")["slope"] - 2) < 0.5
    assert metrics[-1]["samples"] == 40 * 64


def test_the_report_shows_the_kinds(finished: Path) -> None:
    page = (finished / "studies" / "line" / "report.html").read_text(encoding="utf-8")
    table = (finished / "studies" / "line" / "table.tsv").read_text(encoding="utf-8")
    assert "slope.slope" in table.splitlines()[0]
    assert "The slope of the line" in page
    assert "How steep the line is" in page
    assert page.count("<svg") == 2
