from pathlib import Path

import pytest
import torch
from support import saved_model

from seedbed.evaluate.subject import Subject
from seedbed.files import read_json, write_json
from seedbed.models import recurrence


def subject(folder: Path, tokens: Path, **config: object) -> Subject:
    path = folder / "config.json"
    write_json(path, read_json(path) | config)
    return Subject(folder, tokens, 32)


@pytest.fixture
def folder(tokenizer: Path, tmp_path: Path) -> Path:
    return saved_model(tokenizer, tmp_path / "model")


IDS = torch.randint(3, 300, (2, 40), generator=torch.Generator().manual_seed(0))


def test_a_recurrent_model_is_read_in_its_segments_with_its_cache(folder: Path, tokens: Path) -> None:
    whole = subject(folder, tokens).logits(IDS)
    memory = {"work_size": 8, "cache_size": 8}
    made = subject(folder, tokens, recurrence=memory)
    with torch.no_grad():
        expected = recurrence.logits(made.model, IDS, 8, 8)
    assert torch.equal(made.logits(IDS), expected)
    torch.testing.assert_close(made.logits(IDS)[:, :8], whole[:, :8], atol=1e-5, rtol=0)
    assert not torch.allclose(made.logits(IDS)[:, 30:], whole[:, 30:], atol=1e-3)


def test_a_cache_that_holds_all_continues_as_an_ordinary_model(folder: Path, tokens: Path) -> None:
    ids = IDS[0].tolist()
    expected = subject(folder, tokens).greedy(ids, 12)
    assert len(expected) == 12
    assert subject(folder, tokens, recurrence={"work_size": 7, "cache_size": 99}).greedy(ids, 12) == expected
    assert subject(folder, tokens, recurrence={"work_size": 7, "cache_size": 3}).greedy(ids, 12) != expected


def test_greedy_stops_at_the_end_of_the_sequence(folder: Path, tokens: Path) -> None:
    made = subject(folder, tokens, recurrence={"work_size": 8, "cache_size": 8})
    first = made.greedy(IDS[0].tolist(), 5)[0]
    assert recurrence.greedy(made.model, IDS[:1], 5, first, 8, 8) == [first]
