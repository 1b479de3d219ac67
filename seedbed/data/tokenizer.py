"""Byte-level BPE trained on a corpus, or an external tokenizer; either way a directory that transformers loads."""

import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Encoding, Tokenizer, decoders, models, pre_tokenizers, trainers

from seedbed.checksums import described_files, verify_files
from seedbed.data.corpus import Shard, read_documents, shards
from seedbed.data.formats import STATS, Compression, TokenizerStats
from seedbed.errors import SeedbedError
from seedbed.files import read_json, replacing, write_json
from seedbed.iterate import batched
from seedbed.models.external import collect, load_tokenizer
from seedbed.models.foreign import TOKENIZER_FILES, check_tokenizer, panics_raised, reason
from seedbed.records import read_record, write_record

MOST_TOKENS = 2**24  # ids of a tokenizer from elsewhere: each has a row in a model's embeddings
# With ids 0, 1, 2, in this order.
PAD, BOS, EOS = "<|pad|>", "<|bos|>", "<|eos|>"


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE (GPT-2, Radford et al. 2019; its word pattern, no prefix space), ids 0, 1, 2 = pad, bos, eos.

    Raises SeedbedError when the texts have too few different pairs for `vocab_size`.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=sys.stderr.isatty(),
    )
    tokenizer.train_from_iterator(batched(texts, 1000), trainer)
    if tokenizer.get_vocab_size() < vocab_size:
        raise SeedbedError(
            f"vocab_size {vocab_size} is larger than the text supports: expected at most {tokenizer.get_vocab_size()}"
        )
    return tokenizer


def sample(shards: Iterable[Shard], max_bytes: int) -> Iterator[str]:
    """The first `max_bytes` bytes of documents: a uniform sample, because the shards are shuffled."""
    for shard in shards:
        for text in read_documents(shard, f"reading {shard.name}"):
            max_bytes -= len(text.encode())
            if max_bytes < 0:
                return
            yield text


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json, as transformers' `AutoTokenizer` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "bos_token": BOS,
        "eos_token": EOS,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 10**9,
    }
    write_json(folder / "tokenizer_config.json", config)


def save_external(spec: dict, folder: Path) -> None:
    """Save a tokenizer from the hub or a directory (tokenizer.json or SentencePiece) as a fast tokenizer.

    Raises SeedbedError when it cannot be loaded or would need code of its own, has no fast version, or has no
    end-of-sequence token.
    """
    source = spec["from"]
    called = f"tokenizer {source}"
    with tempfile.TemporaryDirectory() as place:
        files = Path(place) / "tokenizer"
        collect(called, source, spec["revision"] or "main", TOKENIZER_FILES, files)
        check_tokenizer(files, called)
        tokenizer = load_tokenizer(called, source, files)
        if not tokenizer.is_fast:
            raise SeedbedError(f"{called}: {type(tokenizer).__name__} has no fast version (tokenizer.json)")
        if spec["eos_token"]:
            if spec["eos_token"] not in tokenizer.get_vocab():
                raise SeedbedError(f"{called}: eos_token {spec['eos_token']!r} is not in its vocabulary")
            tokenizer.eos_token = spec["eos_token"]
        if tokenizer.eos_token_id is None:
            raise SeedbedError(f"{called}: has no end-of-sequence token; set `eos_token` to one of its tokens")
        if (largest := max(tokenizer.get_vocab().values())) >= MOST_TOKENS:
            raise SeedbedError(f"{called}: has a token with the id {largest}; expected ids below {MOST_TOKENS}")
        tokenizer.save_pretrained(folder)


def load_for_encoding(folder: Path) -> tuple[Tokenizer, int]:
    """The tokenizer of a directory, which encodes special tokens in text as plain text, and its end-of-sequence id.

    Raises SeedbedError where its files are damaged or missing.
    """
    verify_tokenizer(folder)
    path = folder / "tokenizer.json"
    if not path.exists():
        raise SeedbedError(f"{path}: no such file")
    try:
        with panics_raised():
            tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # plain ones
        raise SeedbedError(f"{path}: no tokenizer ({error})") from None
    tokenizer.encode_special_tokens = True
    tokenizer.no_padding()
    tokenizer.no_truncation()
    config = read_json(folder / "tokenizer_config.json")
    eos = config.get("eos_token") if isinstance(config, dict) else None
    found = tokenizer.token_to_id(str(eos["content"] if isinstance(eos, dict) and "content" in eos else eos))
    if found is None:
        raise SeedbedError(f"{folder / 'tokenizer_config.json'}: eos_token: found {eos!r}, expected one of its tokens")
    return tokenizer, found


def verify_tokenizer(folder: Path) -> None:
    """Raise SeedbedError where the files of a tokenizer are not what its stage wrote; a model's has no such list."""
    if (folder / STATS).exists():
        verify_files(folder, read_record(folder / STATS, TokenizerStats)["files"], folder / STATS)


def check_loads(folder: Path) -> None:
    """Raise SeedbedError where transformers cannot load the tokenizer that an exported model is to have."""
    load_for_encoding(folder)
    load_tokenizer(f"{folder}: transformers cannot load this tokenizer", str(folder), folder)


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """One more than the largest id: ids of external tokenizers may have gaps."""
    return max(tokenizer.get_vocab().values()) + 1


def encodings(tokenizer: Tokenizer, texts: list[str], called: str) -> list[Encoding]:
    """The texts as tokens, none of them special; raises SeedbedError that begins with `called` where it fails."""
    try:
        with panics_raised():  # at a pattern that takes too long, for one
            return tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    except Exception as error:  # plain ones
        raise SeedbedError(f"{called}: a text cannot be encoded: {reason(error)}") from None


def compression(tokenizer: Tokenizer, texts: Iterable[str], called: str) -> Compression:
    """Bytes and characters per token, and how many texts are not exactly restored by decoding.

    `called` is how messages begin.
    """
    tokens = characters = size = lossy = 0
    for batch in batched(texts, 256):
        for text, encoding in zip(batch, encodings(tokenizer, batch, called), strict=True):
            tokens += len(encoding.ids)
            characters += len(text)
            size += len(text.encode())
            lossy += tokenizer.decode(encoding.ids, skip_special_tokens=False) != text
    return {
        "tokens": tokens,
        "bytes_per_token": size / max(1, tokens),
        "characters_per_token": characters / max(1, tokens),
        "lossy_documents": lossy,
    }


def build_tokenizer(spec: dict, corpus: Path | None, target: Path) -> TokenizerStats:
    """Write a tokenizer directory with `stats.json`, and return the stats.

    `spec` is a tokenizer of the configuration; `corpus` the directory of a built corpus, required to train one
    (an external one is measured on it if given).
    """
    if corpus is None and "from" not in spec:
        raise SeedbedError("tokenizer: found no corpus to train it on; expected --corpus with a built one")
    with replacing(target, r".*\.(json|jinja|model)|(vocab|merges)\.txt") as folder:
        stats = {}
        if "from" in spec:
            save_external(spec, folder)
        else:
            texts = list(sample(shards(corpus, "train"), spec["max_bytes"]))
            stats["sample_bytes"] = sum(len(text.encode()) for text in texts)
            save_tokenizer(train_tokenizer(texts, spec["vocab_size"]), folder)
        tokenizer, eos = load_for_encoding(folder)
        stats |= {"vocab_size": vocabulary_size(tokenizer), "eos_id": eos}
        if corpus:
            valid = (text for shard in shards(corpus, "valid") for text in read_documents(shard))
            stats["valid"] = compression(tokenizer, valid, f"tokenizer {spec.get('from', target)}")
        stats["files"] = described_files(folder)
        write_record(folder / STATS, TokenizerStats, stats)
    return stats
