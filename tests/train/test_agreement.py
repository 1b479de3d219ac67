"""One rank alone; what two of them agree on is tested with the engine."""

import pytest
import torch.distributed as dist

from seedbed.train.agreement import Agreement


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Agreement:
    """The agreement of a single rank, which must ask nobody."""

    def asked(*args: object, **options: object) -> None:
        raise AssertionError("a single rank has nobody to ask")

    for name in ("new_group", "all_reduce", "barrier"):
        monkeypatch.setattr(dist, name, asked)
    return Agreement(1)


@pytest.mark.parametrize("wishes", [(), (True,), (False, True), (True, False, False)])
def test_one_rank_gets_its_wishes_at_once(alone: Agreement, wishes: tuple) -> None:
    assert alone.exchange(*wishes) == list(wishes)


def test_wishes_are_not_remembered(alone: Agreement) -> None:
    assert alone.exchange(True, True) == [True, True]
    assert alone.exchange(False, False) == [False, False]


def test_one_rank_has_nothing_under_way(alone: Agreement) -> None:
    alone.exchange(True)
    assert alone.pending is None
    alone.finish()
    alone.finish()
