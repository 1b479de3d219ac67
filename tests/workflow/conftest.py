from pathlib import Path

import pytest
from workflow_project import Project, make_project


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with these, which take longest: tests side by side then end together."""
    here = Path(__file__).parent
    items.sort(key=lambda item: not item.path.is_relative_to(here))


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
