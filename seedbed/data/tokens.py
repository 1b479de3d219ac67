"""Token shards on disk, and the order in which training reads them.

A split is one long stream: the tokens of each document, then the end-of-sequence token. It lies in flat files of
little-endian integers, memory-mapped; `index.json` names them. Training reads windows of `seq_len` + 1 tokens that
overlap by one, without padding. Their order is computed from the number of each: resuming needs no state, and the order
does not depend on the number of processes.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from seedbed.checksums import described, verify
from seedbed.data.corpus import SPLITS, Shard, corpus_stats, read_documents, shards
from seedbed.data.formats import INDEX, Index, TokenShard
from seedbed.data.tokenizer import encodings, load_for_encoding, vocabulary_size
from seedbed.errors import SeedbedError, choices
from seedbed.files import replacing
from seedbed.iterate import batched
from seedbed.progress import progress
from seedbed.records import read_record, write_record

MEASURES = ("documents", "characters", "bytes", "words", "published_words")  # of a corpus, copied to the index
OURS = r"shards|index\.json"  # in a directory of tokens
BLOCK = 1 << 20  # tokens of a split scanned at once
BATCH = 256  # documents encoded at once: enough for the tokenizer's own threads, small compared to a shard

# --- writing ---------------------------------------------------------------------------------------------------------


def build_tokens(corpus: Path, tokenizer: Path, target: Path, processes: int = 1) -> Index:
    """Encode a built corpus into `target/shards/*.bin` and `target/index.json`; return the index.

    One process encodes one shard at a time, so that the result does not depend on `processes`.
    """
    index = {**header(tokenizer), "splits": {}}
    stats = corpus_stats(corpus)
    with replacing(target, OURS) as partial:
        (partial / "shards").mkdir(parents=True)
        jobs = [(split, shard) for split in SPLITS for shard in shards(corpus, split)]
        folder, dtype = partial / "shards", index["dtype"]
        arguments = [(shard, tokenizer, folder / f"{shard.path.stem}.bin", dtype) for _, shard in jobs]
        written = run_jobs(encode_shard, arguments, processes)
        for split in SPLITS:
            files = [info for (job_split, _), info in zip(jobs, written, strict=True) if job_split == split]
            measures = {key: value for key, value in stats["splits"][split].items() if key in MEASURES}
            index["splits"][split] = {"tokens": sum(info["tokens"] for info in files), **measures, "shards": files}
        write_record(partial / INDEX, Index, index)
    return index


def header(tokenizer: Path) -> dict:
    """Index entries common to all splits: type of the ids on disk, size of the vocabulary, end-of-sequence id."""
    encoder, eos = load_for_encoding(tokenizer)
    vocab_size = vocabulary_size(encoder)
    return {"dtype": "uint16" if vocab_size <= 2**16 else "uint32", "vocab_size": vocab_size, "eos_id": eos}


def run_jobs(work: Callable[[tuple], dict], arguments: list[tuple], processes: int) -> list[dict]:
    """The results of `work`, a module-level function, for each of the arguments, in order."""
    if processes <= 1:
        return [work(job) for job in arguments]
    # The processes already use the cores; the tokenizer's own threads would only compete with them.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return list(progress(pool.map(work, arguments), what="shards", unit="shards", total=len(arguments)))


def encode_shard(job: tuple[Shard, Path, Path, str]) -> TokenShard:
    """Encode one document shard into one token shard; return its entry in the index."""
    source, tokenizer, target, dtype = job
    return write_shard(encoded(read_documents(source, f"encoding {source.name}"), tokenizer), target, dtype)


def encoded(texts: Iterable[str], tokenizer: Path) -> Iterator[list[int]]:
    """The tokens of the texts, each followed by the end-of-sequence token, in batches of texts."""
    encoder, eos = load_for_encoding(tokenizer)
    for batch in batched(texts, BATCH):
        ids = []
        for encoding in encodings(encoder, batch, str(tokenizer)):
            ids += encoding.ids
            ids.append(eos)
        yield ids


def write_shard(pieces: Iterable[list[int] | np.ndarray], target: Path, dtype: str) -> TokenShard:
    """Write pieces of a stream, one after the other, into one token shard; return its entry in the index."""
    tokens = 0
    with target.open("wb") as stream:
        for ids in pieces:
            stored = np.asarray(ids, dtype=np.dtype(dtype).newbyteorder("<"))
            stream.write(stored.tobytes())
            tokens += stored.size
    return {"file": target.name, "tokens": tokens} | described(target)


# --- reading ---------------------------------------------------------------------------------------------------------


class TokenSplit:
    """One split as a stream of `len(split)` tokens, memory-mapped; its shards are verified first."""

    def __init__(self, folder: Path | str, split: str) -> None:
        index = read_record(Path(folder) / INDEX, Index)
        if split not in index["splits"]:
            raise SeedbedError(f"{folder}: has no split {split!r}{choices(split, index['splits'])}")
        entry = index["splits"][split]
        self.folder, self.name = folder, f"{folder}: {split}"
        self.tokens, self.eos_id = entry["tokens"], index["eos_id"]
        self.documents = entry["documents"]
        # of whole documents: contexts have none of them
        self.bytes, self.characters, self.words = (entry.get(key) for key in ("bytes", "characters", "words"))
        self.published_words = entry.get("published_words")  # of a dataset with a published count
        self.vocab_size = index["vocab_size"]
        dtype = np.dtype(index["dtype"]).newbyteorder("<")
        self.parts = [map_shard(Path(folder), shard, dtype) for shard in entry["shards"]]
        self.starts = np.cumsum([0, *(len(part) for part in self.parts)])

    def __len__(self) -> int:
        return self.tokens

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens start..stop-1 of the stream as int64 [stop - start]."""
        first = int(np.searchsorted(self.starts, start, side="right")) - 1
        pieces = []
        while start < stop:
            offset = start - self.starts[first]
            piece = self.parts[first][offset : offset + stop - start]
            pieces.append(piece)
            start += len(piece)
            first += 1
        return np.concatenate(pieces).astype(np.int64)

    def each_end(self) -> Iterator[int]:
        """Positions of the end-of-sequence tokens in order, scanned a block at a time."""
        for part, start in zip(self.parts, self.starts, strict=False):
            for first in range(0, len(part), BLOCK):
                yield from (np.flatnonzero(part[first : first + BLOCK] == self.eos_id) + start + first).tolist()

    @cached_property
    def document_ends(self) -> np.ndarray:
        """Positions of the end-of-sequence tokens, int64 [documents]."""
        return np.fromiter(self.each_end(), np.int64)

    def each_document(self) -> Iterator[np.ndarray]:
        """The tokens of each document, its end-of-sequence token last, int64 [length]."""
        start = 0
        for end in self.each_end():
            yield self.read(start, end + 1)
            start = end + 1


def map_shard(folder: Path, shard: TokenShard, dtype: np.dtype) -> np.ndarray:
    path = folder / "shards" / shard["file"]
    verify(path, shard, folder / INDEX)
    return np.memmap(path, dtype=dtype, mode="r") if shard["tokens"] else np.empty(0, dtype)


@dataclass(frozen=True)
class Windows:
    """Training windows of a split in a pseudo-random order, every window once per epoch."""

    split: TokenSplit
    seq_len: int
    seed: int

    def __post_init__(self) -> None:
        if not self.per_epoch:
            raise SeedbedError(
                f"{self.split.name}: {len(self.split)} tokens are fewer than one window of seq_len {self.seq_len} "
                "and its targets"
            )

    @property
    def per_epoch(self) -> int:
        return (len(self.split) - 1) // self.seq_len

    def window(self, number: int) -> np.ndarray:
        """Tokens [seq_len + 1] of the `number`-th window of the whole training, counted over epochs."""
        epoch, place = divmod(number, self.per_epoch)
        return self.at(permuted(place, self.per_epoch, self.seed, epoch))

    def at(self, place: int) -> np.ndarray:
        """Tokens [seq_len + 1] of the window at that place of the stream."""
        return self.split.read(place * self.seq_len, (place + 1) * self.seq_len + 1)


@dataclass(frozen=True)
class Streams:
    """A split cut into `rows` equal streams; each training step reads the next window of all of them.

    Every epoch starts over. The sequence `number` is row `number % rows` of step `number // rows`.
    """

    split: TokenSplit
    seq_len: int
    rows: int

    def __post_init__(self) -> None:
        if not self.steps_per_epoch:
            raise SeedbedError(
                f"{self.split.name}: {len(self.split)} tokens are too few for {self.rows} streams of at least "
                f"seq_len {self.seq_len}; expected a smaller batch_tokens"
            )

    @property
    def steps_per_epoch(self) -> int:
        return (len(self.split) - 1) // self.rows // self.seq_len

    @property
    def per_epoch(self) -> int:
        return self.steps_per_epoch * self.rows

    def row(self, number: int) -> int:
        return number % self.rows

    def starts(self, number: int) -> bool:
        """Whether the sequence is the first of its stream."""
        return number // self.rows % self.steps_per_epoch == 0

    def window(self, number: int) -> np.ndarray:
        """Tokens [seq_len + 1] of the `number`-th sequence of the whole training."""
        place = number // self.rows % self.steps_per_epoch
        start = self.row(number) * ((len(self.split) - 1) // self.rows) + place * self.seq_len
        return self.split.read(start, start + self.seq_len + 1)


def permuted(index: int, size: int, seed: int, epoch: int) -> int:
    """The image of `index` in a pseudo-random permutation of range(size) chosen by (seed, epoch), in O(1) memory.

    A four-round Feistel network on the next even number of bits (Luby and Rackoff 1988), repeated until the result is
    inside the range (cycle walking, Black and Rogaway 2002).
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    key = mixed(mixed(seed) ^ epoch)
    while True:
        left, right = index >> half, index & mask
        for round_number in range(4):
            left, right = right, left ^ (mixed(key ^ (round_number << 60) ^ right) & mask)
        index = left << half | right
        if index < size:
            return index


def mixed(value: int) -> int:
    """64 well-mixed bits of an integer (the finaliser of SplitMix64, Steele et al. 2014)."""
    word = 2**64 - 1
    value = (value + 0x9E3779B97F4A7C15) & word
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & word
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & word
    return value ^ value >> 31
