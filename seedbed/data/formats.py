"""The small files that describe data to the stages after it, with the checksums of what lies beside them."""

from typing import Literal, NotRequired

from seedbed.checksums import FileFacts, Inside
from seedbed.records import Record

STATS, INDEX = "stats.json", "index.json"


class ShardEntry(FileFacts):
    file: Inside


class SplitStats(Record):
    documents: int
    characters: int
    bytes: int
    words: int
    length_quantiles: dict[str, int]  # in characters
    published_words: NotRequired[int]
    shards: list[ShardEntry]


class CorpusStats(Record):
    """stats.json of a corpus: documents read, left out and kept."""

    read: int
    too_short: int
    duplicates: int
    splits: dict[str, SplitStats]


class Compression(Record):
    tokens: int
    bytes_per_token: float
    characters_per_token: float
    lossy_documents: int


class TokenizerStats(Record):
    """stats.json of a tokenizer, with the checksums of the files beside it."""

    sample_bytes: NotRequired[int]  # that it was trained on
    vocab_size: int
    eos_id: int
    valid: NotRequired[Compression]
    files: dict[Inside, FileFacts]


class TokenShard(ShardEntry):
    tokens: int


class TokenSplitEntry(Record):
    """A split; what is counted of whole documents is missing where they were cut."""

    tokens: int
    documents: int
    characters: NotRequired[int]
    bytes: NotRequired[int]
    words: NotRequired[int]
    published_words: NotRequired[int]
    shards: list[TokenShard]


class Index(Record):
    """index.json of tokens, and of contexts, which say how many documents each split of the corpus gave to hold out."""

    dtype: Literal["uint16", "uint32"]
    vocab_size: int
    eos_id: int
    splits: dict[str, TokenSplitEntry]
    held_out_from: NotRequired[dict[str, int]]
