"""Where results may lie, and what the workflow tells of a configuration that Snakemake reads otherwise."""

import sys
from pathlib import Path

import pytest
from forked import start_snakemake
from support import ROOT, changed

sys.path.append(str(ROOT / "workflow" / "rules"))

from places import check_results

from seedbed.errors import SeedbedError

SYSTEM = [
    "/",
    "/etc",
    "/etc/seedbed",
    "/usr",
    "/usr/bin/x",
    "/bin",
    "/var",
    "/dev",
    "/dev/null",
    "/proc/1",
    "/sys",
    "/boot",
]
OWN = ["seedbed", "workflow/rules", "./scripts", "../{name}/docs", "."]


@pytest.mark.parametrize("results", [*SYSTEM, "/home", "~"])
def test_results_do_not_lie_in_places_of_the_system(results: str, tmp_path: Path) -> None:
    with pytest.raises(SeedbedError, match="config: results: belongs to the system, or is the home of people; found"):
        check_results(str(Path(results).expanduser()), tmp_path)


@pytest.mark.parametrize("results", OWN)
def test_results_do_not_lie_among_the_sources(results: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SeedbedError, match="config: results: has the sources of Seedbed; found"):
        check_results(results.format(name=tmp_path.name), tmp_path)


def test_results_lie_anywhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "code").mkdir()
    monkeypatch.chdir(tmp_path / "code")
    for results in ("results", "../results", str(tmp_path / "a" / "b"), "/dev/shm/x", "/home/x/y", "/scratch"):
        check_results(results, tmp_path / "code")


def test_a_link_is_followed_and_a_file_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(SeedbedError, match="belongs to the system"):
        check_results(str(tmp_path / "link"), ROOT)
    (tmp_path / "file").touch()
    for results in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SeedbedError, match="file is a file; found"):
            check_results(str(results), ROOT)


def test_the_workflow_ends_with_that_line(project) -> None:
    for results in ("seedbed", "/etc", "config.yaml"):
        done = project.run("-n", config=changed(project.config, "results", results))
        assert done.returncode == 1
        assert done.stdout.splitlines()[-1].startswith("error: config: results: ")


TEXTS = {
    "a key twice": ("runs: {}\nruns: {}\n", "runs: line 2: written in line 1 already"),
    "not YAML": ("runs: [", "not valid YAML: line 2, column 1"),
    "no date": ("a: 2026-13-45", "a: line 1: found '2026-13-45', which is no date"),
    "a list": ("- 1", "found [1], expected a mapping"),
    "empty": ("", "is empty; expected keys such as runs and studies"),
    "not UTF-8": (b"\xff", "line 1: not UTF-8"),
}


@pytest.mark.parametrize("mistake", TEXTS)
def test_a_file_that_is_no_configuration_is_one_line(project, mistake: str) -> None:
    text, told = TEXTS[mistake]
    (project.folder / "config.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    done = start_snakemake(["-n"], project.folder, project.folder / "log")
    done.join()
    said = (project.folder / "log").read_text().splitlines()
    assert said[-1].startswith(f"error: config.yaml: {told}")
    assert len([line for line in said if not line.startswith("Using ")]) == 1


def test_a_key_twice_is_told_of_a_file_that_snakemake_has_read(project) -> None:
    with (project.folder / "test.yaml").open("a") as file:
        file.write("runs: {}\n")
    done = project.start(project.folder / "log", "-n")
    done.join()
    line = (project.folder / "log").read_text().splitlines()[-1]
    assert line.startswith("error: test.yaml: runs: line ") and line.endswith(" already")
