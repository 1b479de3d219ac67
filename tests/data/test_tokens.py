import shutil
from pathlib import Path

import numpy as np
import pytest
from support import change, contents
from transformers import AutoTokenizer

from seedbed.checksums import sha256
from seedbed.data import tokens as tokens_module
from seedbed.data.corpus import read_documents, shards
from seedbed.data.tokens import Streams, TokenSplit, Windows, build_tokens, permuted
from seedbed.errors import SeedbedError
from seedbed.files import read_json


def reference(corpus: Path, tokenizer: Path, split: str) -> list[int]:
    """The stream by transformers, one document at a time."""
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    texts = [text for shard in shards(corpus, split) for text in read_documents(shard)]
    return [token for text in texts for token in [*loaded(text).input_ids, loaded.eos_token_id]]


@pytest.mark.parametrize("name", ["train", "valid", "test"])
def test_the_stream_is_that_of_transformers(corpus: Path, tokenizer: Path, tokens: Path, name: str) -> None:
    split, expected = TokenSplit(tokens, name), reference(corpus, tokenizer, name)
    assert len(split) == len(expected)
    assert split.read(0, len(split)).tolist() == expected
    assert split.documents == expected.count(2) == len(split.document_ends)


def test_pieces_across_shards_are_read(tokens: Path) -> None:
    split = TokenSplit(tokens, "train")
    whole = split.read(0, len(split))
    border = int(split.starts[1])
    for start, stop in ((border - 5, border + 5), (border, border + 1), (border - 1, border), (0, 0), (3, len(split))):
        assert split.read(start, stop).tolist() == whole[start:stop].tolist() if stop > start else True


@pytest.mark.parametrize("block", [1, 100, 1 << 20])
@pytest.mark.parametrize("name", ["train", "valid"])
def test_documents_are_cut_at_their_ends(tokens: Path, monkeypatch: pytest.MonkeyPatch, name: str, block: int) -> None:
    monkeypatch.setattr(tokens_module, "BLOCK", block)
    split = TokenSplit(tokens, name)
    documents = list(split.each_document())
    assert len(documents) == split.documents
    assert all(ids[-1] == 2 and 2 not in ids[:-1] for ids in documents)
    assert np.concatenate(documents).tolist() == split.read(0, len(split)).tolist()


def test_processes_do_not_change_the_result(corpus: Path, tokenizer: Path, tokens: Path, tmp_path: Path) -> None:
    assert build_tokens(corpus, tokenizer, tmp_path / "two", processes=2) == contents(tokens / "index.json")


def test_the_index_names_every_shard_with_its_checksum(tokens: Path) -> None:
    index = read_json(tokens / "index.json")
    assert index["dtype"] == "uint16"
    listed = [shard for split in index["splits"].values() for shard in split["shards"]]
    assert sorted(shard["file"] for shard in listed) == sorted(path.name for path in (tokens / "shards").iterdir())
    assert all(shard["sha256"] == sha256(tokens / "shards" / shard["file"]) for shard in listed)


def test_words_that_a_data_set_publishes_are_carried_on(
    corpus: Path, tokenizer: Path, tokens: Path, tmp_path: Path
) -> None:
    shutil.copytree(corpus, tmp_path / "corpus")
    splits = read_json(corpus / "stats.json")["splits"]
    splits["valid"]["published_words"] = 4321
    change(tmp_path / "corpus" / "stats.json", splits=splits)
    index = build_tokens(tmp_path / "corpus", tokenizer, tmp_path / "tokens")
    assert {name: facts.get("published_words") for name, facts in index["splits"].items()} == {
        "train": None,
        "valid": 4321,
        "test": None,
    }
    assert TokenSplit(tmp_path / "tokens", "valid").published_words == 4321
    assert TokenSplit(tmp_path / "tokens", "test").published_words is None
    assert set(read_json(tokens / "index.json")["splits"]["valid"]) == {
        "tokens", "documents", "characters", "bytes", "words", "shards",
    }  # fmt: skip


def test_a_damaged_shard_is_told(corpus: Path, tokenizer: Path, tmp_path: Path) -> None:
    build_tokens(corpus, tokenizer, tmp_path / "t")
    shard = next((tmp_path / "t" / "shards").glob("train-*"))
    size = shard.stat().st_size
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(SeedbedError, match=f"{shard.name}: damaged: found {size - 2} bytes, expected {size}"):
        TokenSplit(tmp_path / "t", "train")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 65, 1000])
def test_every_index_goes_to_its_own_place(size: int) -> None:
    assert sorted(permuted(index, size, seed=3, epoch=1) for index in range(size)) == list(range(size))


def test_seed_and_epoch_change_the_order() -> None:
    orders = {
        (seed, epoch): tuple(permuted(i, 500, seed, epoch) for i in range(500))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(set(orders.values())) == 9
    assert tuple(range(500)) not in orders.values()


def test_the_order_looks_random() -> None:
    places = np.array([permuted(index, 4000, 0, 0) for index in range(4000)])
    assert abs(np.corrcoef(places, np.arange(4000))[0, 1]) < 0.05
    assert abs(np.corrcoef(places[1:], places[:-1])[0, 1]) < 0.05


def test_windows_overlap_by_one_and_cover_an_epoch_once(tokens: Path) -> None:
    split = TokenSplit(tokens, "train")
    windows = Windows(split, 32, seed=0)
    whole = split.read(0, len(split))
    seen = [tuple(windows.window(number)) for number in range(windows.per_epoch)]
    expected = [tuple(whole[start : start + 33]) for start in range(0, windows.per_epoch * 32, 32)]
    assert sorted(seen) == sorted(expected)
    assert seen != expected
    second = [tuple(windows.window(windows.per_epoch + number)) for number in range(windows.per_epoch)]
    assert sorted(second) == sorted(expected)
    assert second != seen


def test_a_split_shorter_than_a_window_is_told(tokens: Path) -> None:
    with pytest.raises(SeedbedError, match="fewer than one window of seq_len 1000000"):
        Windows(TokenSplit(tokens, "train"), 1_000_000, 0)


class Positions:
    """A split whose tokens are their places."""

    def __init__(self, length: int) -> None:
        self.length, self.name = length, "places"

    def __len__(self) -> int:
        return self.length

    def read(self, start: int, stop: int) -> np.ndarray:
        assert 0 <= start < stop <= self.length
        return np.arange(start, stop)


@pytest.mark.parametrize(
    ("length", "rows", "seq_len"), [(1000, 4, 16), (65, 4, 16), (129, 4, 16), (128, 4, 16), (17, 1, 16), (50, 7, 1)]
)
def test_streams_predict_every_token_once_and_leave_little_over(length: int, rows: int, seq_len: int) -> None:
    streams = Streams(Positions(length), seq_len, rows)
    seen = np.stack([streams.window(number) for number in range(streams.per_epoch)])
    assert seen.shape == (streams.steps_per_epoch * rows, seq_len + 1)
    predicted = seen[:, 1:].flatten()
    assert len(set(predicted.tolist())) == len(predicted)
    # What is left over would not make another step.
    assert length - 1 - len(predicted) < rows * seq_len + rows


def test_streams_go_on_in_every_row_and_start_anew_with_every_epoch() -> None:
    streams = Streams(Positions(1000), 16, 4)
    assert (streams.steps_per_epoch, streams.per_epoch) == (15, 60)
    for number in range(3 * 60):
        window = streams.window(number)
        assert streams.row(number) == number % 4
        assert streams.starts(number) == (number % 60 < 4)
        assert np.array_equal(window, streams.window(number % 60))
        if not streams.starts(number):
            assert window[0] == streams.window(number - 4)[-1]


def test_streams_longer_than_the_split_are_told(tokens: Path) -> None:
    split = TokenSplit(tokens, "valid")
    fitting = (len(split) - 1) // 32
    assert Streams(split, 32, fitting).steps_per_epoch == 1
    with pytest.raises(SeedbedError) as caught:
        Streams(split, 32, fitting + 1)
    assert f"{len(split)} tokens are too few for {fitting + 1} streams of at least seq_len 32" in str(caught.value)
    assert "expected a smaller batch_tokens" in str(caught.value)
    assert "\n" not in str(caught.value) and str(tokens) in str(caught.value)
