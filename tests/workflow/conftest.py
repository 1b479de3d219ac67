from pathlib import Path

import pytest
from workflow_project import Project, make_project


@pytest.hookimpl(tryfirst=True)  # xdist looks at the marks in a hook of its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have one process run all tests of a project that takes a while to make."""
    for item in items:
        for made in ("finished_project", "compressing", "wsd"):
            if made in item.fixturenames:
                item.add_marker(pytest.mark.xdist_group(made))


@pytest.fixture(scope="session")
def finished_project(text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The real chain, run once with the default profile, on two DeepSpeed ranks."""
    project = make_project(tmp_path_factory.mktemp("project") / "seedbed-copy", text_file)
    done = project.run("--cores", "2", "--set-resources", "pretrain:processes=2")
    assert done.returncode == 0, done.stdout
    return project


@pytest.fixture
def project(text_file: Path, tmp_path: Path) -> Project:
    """A project that nothing was run in yet."""
    return make_project(tmp_path / "project", text_file)
