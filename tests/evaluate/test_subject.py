from pathlib import Path

import pytest
import torch
from support import saved_model

from seedbed.errors import SeedbedError
from seedbed.evaluate.subject import Subject
from seedbed.files import read_json, write_json
from seedbed.models import recurrence
from seedbed.models.recurrence import SegmentCache


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
        expected = recurrence.logits(made.model, IDS, 8, SegmentCache(8))
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


@pytest.mark.parametrize("memory", [None, {"work_size": 8, "cache_size": 8}, {"work_size": 7, "cache_size": 99}])
@pytest.mark.parametrize("read", [3, 16, 20])
def test_rows_go_on_from_a_prefix_that_was_read_once(
    folder: Path, tokens: Path, memory: dict | None, read: int
) -> None:
    made = subject(folder, tokens, recurrence=memory)
    shared = IDS[:1, :read].expand(2, -1)
    whole = torch.cat([shared, IDS[:, read:]], dim=1)
    prefix = made.read(shared[0].tolist())
    assert prefix.length == (read if memory is None else read - read % memory["work_size"])
    rest = whole[:, prefix.length :]
    expected = made.logits(whole)[:, prefix.length :]
    torch.testing.assert_close(made.logits(rest, after=prefix), expected, atol=1e-5, rtol=0)
    places = torch.tensor([[0, rest.shape[1] - 1], [5, 2]])
    found = made.logits(rest, at=places, after=prefix)
    torch.testing.assert_close(found, expected[torch.arange(2)[:, None], places], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "gptj"])
def test_other_families_go_on_from_a_prefix_too(tokenizer: Path, tokens: Path, tmp_path: Path, family: str) -> None:
    made = Subject(saved_model(tokenizer, tmp_path / "model", family), tokens, 32)
    prefix = made.read(IDS[0, :9].tolist())
    whole = torch.cat([IDS[:1, :9].expand(2, -1), IDS[:, 9:]], dim=1)
    expected = made.logits(whole)[:, 9:]
    assert prefix.length == 9
    torch.testing.assert_close(made.logits(whole[:, 9:], after=prefix), expected, atol=1e-5, rtol=0)


def test_a_model_with_another_memory_shares_no_prefix(tokenizer: Path, tokens: Path, tmp_path: Path) -> None:
    made = Subject(saved_model(tokenizer, tmp_path / "model", "mamba"), tokens, 32)
    assert made.read(IDS[0].tolist()).length == 0
    at = torch.tensor([[3], [39]])
    torch.testing.assert_close(made.logits(IDS, at=at)[1, 0], made.logits(IDS)[1, 39])


@pytest.mark.parametrize(("family", "most"), [("llama", None), ("gpt2", 64), ("gpt_neox", None), ("opt", 48)])
def test_only_tables_of_positions_limit_the_input(
    tokenizer: Path, tokens: Path, tmp_path: Path, family: str, most: int | None
) -> None:
    made = Subject.of_model(saved_model(tokenizer, tmp_path / "model", family), tokens)
    assert made.most_positions == most
    assert made.trained_length == {"llama": 2048, "gpt2": 64, "gpt_neox": 96, "opt": 48}[family]


def test_a_text_begins_with_bos_or_what_stands_for_it(folder: Path, tokens: Path) -> None:
    assert subject(folder, tokens).begin == {"id": 1, "token": "<|bos|>", "is": "bos"}
    assert subject(folder, tokens, bos_token_id=None).begin == {"id": 2, "token": "<|eos|>", "is": "eos"}
    made = subject(folder, tokens)
    made.tokenizer.bos_token = None
    assert made.begin == {"id": 2, "token": "<|eos|>", "is": "eos"}
    made = subject(folder, tokens)
    made.tokenizer.bos_token = made.tokenizer.eos_token = None
    with pytest.raises(SeedbedError, match="neither a BOS nor an EOS"):
        _ = made.begin


def test_its_identity_is_that_of_weights_config_and_tokenizer(folder: Path, tokens: Path) -> None:
    before = subject(folder, tokens).identity()
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(before["sha256"])
    assert subject(folder, tokens, rms_norm_eps=0.5).identity()["sha256"] != before["sha256"]
