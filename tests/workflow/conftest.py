from pathlib import Path

import pytest
from workflow_project import Project, make_project

PROJECTS = ("finished_project", "compressing", "wsd")  # fixtures that take a while to make, the longest first


@pytest.hookimpl(tryfirst=True)  # xdist looks at the marks in a hook of its own
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of tests side by side, have one process run all of such a project, and begin with those."""
    if not getattr(config.option, "loadgroup", False):  # xdist sets it in each of its processes
        return

    def place(item: pytest.Item) -> int:
        return min((PROJECTS.index(name) for name in PROJECTS if name in item.fixturenames), default=len(PROJECTS))

    for item in items:
        if place(item) < len(PROJECTS):
            item.add_marker(pytest.mark.xdist_group(PROJECTS[place(item)]))
    items.sort(key=place)


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
