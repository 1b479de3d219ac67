import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from seedbed.data.corpus import read_documents, shards
from seedbed.data.tokenizer import build_tokenizer, compression, load_for_encoding, sample
from seedbed.data.tokens import encoded
from seedbed.errors import SeedbedError
from seedbed.files import read_json, write_json

ODD = [
    "",
    " ",
    "\n\n\t ",
    "  two  spaces ",
    "don't 1998 x_y",
    "ü̈ﬁ①Ａ\u3000",
    "\u0000\ufeff\u200b",
    "🤔👩‍🔬",
    "<|eos|>",
    "你好，世界。<|pad|>",
]


def foreign(source: Path | str, **changes: object) -> dict:
    return {"from": str(source), "revision": None, "eos_token": None, **changes}


def test_transformers_loads_it_with_known_ids(tokenizer: Path) -> None:
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    assert (loaded.pad_token_id, loaded.bos_token_id, loaded.eos_token_id) == (0, 1, 2)
    assert len(loaded) == 300


@pytest.mark.parametrize("text", ODD)
def test_any_text_comes_back_exactly(tokenizer: Path, text: str) -> None:
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    assert loaded.decode(loaded(text).input_ids) == text
    encoder, _ = load_for_encoding(tokenizer)
    assert encoder.decode(encoder.encode(text).ids, skip_special_tokens=False) == text


def test_special_tokens_in_text_stay_text(tokenizer: Path) -> None:
    encoder, eos = load_for_encoding(tokenizer)
    assert eos == 2
    assert not {0, 1, 2} & set(encoder.encode("a<|eos|>b<|pad|><|bos|>").ids)


def test_stats_are_measured_on_the_validation_split(corpus: Path, tokenizer: Path) -> None:
    stats = read_json(tokenizer / "stats.json")
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    texts = [text for shard in shards(corpus, "valid") for text in read_documents(shard)]
    count = sum(len(loaded(text).input_ids) for text in texts)
    assert stats["valid"]["tokens"] == count
    assert stats["valid"]["characters_per_token"] == pytest.approx(sum(map(len, texts)) / count)
    assert stats["valid"]["bytes_per_token"] == pytest.approx(sum(len(text.encode()) for text in texts) / count)
    assert stats["valid"]["lossy_documents"] == 0


def test_the_sample_is_whole_documents_up_to_max_bytes(corpus: Path) -> None:
    every = list(sample(shards(corpus, "train"), 10**9))
    some = list(sample(shards(corpus, "train"), 5000))
    assert some == every[: len(some)]
    size = sum(len(text.encode()) for text in some)
    assert size <= 5000 < size + len(every[len(some)].encode())


def test_a_vocabulary_larger_than_the_text_supports_is_told(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(SeedbedError, match=r"vocab_size 100000 is larger than the text supports: expected at most \d+"):
        build_tokenizer({"vocab_size": 100_000, "max_bytes": 10**6}, corpus, tmp_path / "large")
    assert list(tmp_path.iterdir()) == []


def test_a_fast_tokenizer_is_adopted(tokenizer: Path, corpus: Path, tmp_path: Path) -> None:
    build_tokenizer(foreign(tokenizer), None, tmp_path / "adopted")
    adopted, own = AutoTokenizer.from_pretrained(tmp_path / "adopted"), AutoTokenizer.from_pretrained(tokenizer)
    text = "今天记者报道"
    assert adopted(text).input_ids == own(text).input_ids
    stats = read_json(tmp_path / "adopted" / "stats.json")
    assert (stats["vocab_size"], stats["eos_id"]) == (300, 2) and "valid" not in stats


def test_a_sentencepiece_model_is_adopted(tmp_path: Path, texts: list[str]) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    (tmp_path / "given").mkdir()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for text in texts for line in text.splitlines()),
        model_prefix=str(tmp_path / "given" / "tokenizer"),
        vocab_size=120,
        model_type="bpe",
        byte_fallback=False,
        minloglevel=2,
    )
    (tmp_path / "given" / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    build_tokenizer(foreign(tmp_path / "given"), None, tmp_path / "adopted")
    encoder, eos = load_for_encoding(tmp_path / "adopted")
    reference = sentencepiece.SentencePieceProcessor(str(tmp_path / "given" / "tokenizer.model"))
    assert eos == reference.eos_id()
    assert encoder.encode("中国经济", add_special_tokens=False).ids == reference.encode("中国经济")


def test_a_tokenizer_without_an_end_needs_one_named(tmp_path: Path) -> None:
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel()
    plain.train_from_iterator(
        ["abc"], trainers.BpeTrainer(vocab_size=300, special_tokens=["[END]"], show_progress=False)
    )
    PreTrainedTokenizerFast(tokenizer_object=plain).save_pretrained(tmp_path / "plain")
    with pytest.raises(SeedbedError, match="no end-of-sequence token"):
        build_tokenizer(foreign(tmp_path / "plain"), None, tmp_path / "x")
    with pytest.raises(SeedbedError, match=r"eos_token '\[STOP\]' is not in its vocabulary"):
        build_tokenizer(foreign(tmp_path / "plain", eos_token="[STOP]"), None, tmp_path / "x")
    stats = build_tokenizer(foreign(tmp_path / "plain", eos_token="[END]"), None, tmp_path / "x")
    assert stats["eos_id"] == 0


def test_a_text_at_which_a_tokenizer_panics_is_told(tokenizer: Path, tmp_path: Path) -> None:
    source = shutil.copytree(tokenizer, tmp_path / "source", ignore=shutil.ignore_patterns("stats.json"))
    slow = {"type": "Split", "pattern": {"Regex": "(a+)+b"}, "behavior": "Isolated", "invert": False}
    write_json(source / "tokenizer.json", read_json(source / "tokenizer.json") | {"pre_tokenizer": slow})
    with pytest.raises(SeedbedError, match=f"{source}: a text cannot be encoded: .*retry-limit"):
        list(encoded(["a" * 30], source))
    with pytest.raises(SeedbedError, match="it: a text cannot be encoded: .*retry-limit"):
        compression(load_for_encoding(source)[0], ["a" * 30], "it")


def test_a_tokenizer_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SeedbedError, match="tokenizer .*absent") as caught:
        build_tokenizer(foreign(tmp_path / "absent"), None, tmp_path / "x")
    assert "\n" not in str(caught.value)
