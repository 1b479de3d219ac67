"""Every kind of run answers what planning and training ask of it."""

import inspect

import pytest

from seedbed.config.run import Run
from seedbed.objectives import OBJECTIVES
from seedbed.objectives.contract import Objective
from seedbed.registry import located

ASKED = {name for name in vars(Objective) if not name.startswith("_")} | set(Objective.__annotations__)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_an_objective_has_all_that_training_asks(kind: str) -> None:
    made = located(OBJECTIVES[kind].objective_class)
    source = inspect.getsource(made.__init__)
    assert not {name for name in ASKED if not hasattr(made, name) and f"self.{name} =" not in source}
    for name, member in vars(Objective).items():
        if inspect.isfunction(member) and name in ASKED:
            assert len(inspect.signature(getattr(made, name)).parameters) == len(inspect.signature(member).parameters)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_config_class_says_where_the_rest_is(kind: str) -> None:
    run = OBJECTIVES[kind]
    assert issubclass(run, Run)
    assert all(hasattr(located(run.subject_class), name) for name in ("of_run", "identity", "data_identity"))
    assert isinstance(run.subject, str)
