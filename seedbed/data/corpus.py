"""From raw documents to a cleaned, deduplicated, shuffled and split corpus, in memory that does not grow with it.

The shuffle is an external sort by a keyed hash of each text: scatter into buckets by its first bits, then sort each
bucket in memory. It does not depend on the order of the source, and equal documents meet in one bucket, where they are
counted and dropped. The split depends on the text alone (without white space, compatibility-normalised), so that a
document stays in its split whatever else changes in the configuration.

A dataset may be published with splits. Such a split keeps exactly its own documents, and copies of them elsewhere are
dropped, so that evaluation stays complete and training never sees them.
"""

import hashlib
import json
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from itertools import accumulate, chain, repeat
from multiprocessing import parent_process
from pathlib import Path
from typing import BinaryIO

from seedbed.checksums import FileFacts, described, verify
from seedbed.data.formats import STATS, CorpusStats, SplitStats
from seedbed.errors import SeedbedError
from seedbed.files import replacing
from seedbed.progress import progress
from seedbed.records import read_record, write_record

SPLITS = ("train", "valid", "test")
MAIN = "main"
ORIGINS = ("valid", "test", MAIN)  # published splits come before the source that may repeat them
KEY_BYTES = 16
BUCKET_BITS = 6  # of the key at a time: 64 files open at once is well below what systems allow
BUCKET_BYTES = 16 << 20  # a larger bucket is scattered again
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)

# Documents and words of the splits of PG-19 as its authors count them; published word perplexities are per these words
# (arXiv 1911.05507).
PG19 = {"validation": (50, 3_007_061), "test": (100, 6_966_499)}

# Full-width digits and letters only: NFKC would also change Chinese punctuation.
HALFWIDTH = {code: code - 0xFEE0 for code in range(0xFF10, 0xFF5B) if chr(code).isalnum()}


def build_corpus(
    texts: Iterable[str], spec: dict, target: Path, published: Mapping[str, Iterable[str]] | None = None
) -> CorpusStats:
    """Write `target/documents/<split>-<n>-of-<m>.jsonl` and `target/stats.json`; return the stats.

    `spec` is a corpus of the configuration, `texts` the documents of its source, `published` those of each split that
    has a source of its own. Raises SeedbedError when nothing is left, or a split is empty; `target` is then unchanged.
    """
    counts = Counter()
    shares = {name: 0 if isinstance(share, dict) else share for name, share in spec["split"].items()}
    cleaned = clean(with_origin(texts, published or {}), spec, counts)
    with replacing(target, r"documents|shuffle|stats\.json") as partial:
        partial.mkdir(parents=True)
        with ShardWriters(partial / "documents", spec["shards"]) as shards:
            for origin, text in shuffle(cleaned, partial / "shuffle", spec["seed"], spec["deduplicate"], counts):
                shards.write(split_of(text, shares) if origin == MAIN else origin, text)
        (partial / "shuffle").rmdir()
        check_not_empty(target.name, shards, spec, counts)
        stats = {"read": counts["read"], "too_short": counts["too_short"], "duplicates": counts["duplicates"]}
        stats["splits"] = {
            name: split.stats() | published_words(spec["split"].get(name), split.documents)
            for name, split in shards.splits.items()
        }
        write_record(partial / STATS, CorpusStats, stats)
    return stats


def with_origin(texts: Iterable[str], published: Mapping[str, Iterable[str]]) -> Iterator[tuple[str, str]]:
    """Documents of the main source and then of the published splits, each with its origin."""
    return chain(zip(repeat(MAIN), texts), *(zip(repeat(name), own) for name, own in published.items()))


def clean(documents: Iterable[tuple[str, str]], spec: dict, counts: Counter) -> Iterator[tuple[str, str]]:
    """Normalised texts of at least `min_chars` characters, without surrounding white space; origins are passed on."""
    for origin, text in progress(documents, what="reading", unit="documents"):
        counts["read"] += 1
        text = normalise(text, spec["unicode"]).strip()
        if len(text) < max(1, spec["min_chars"]):
            counts["too_short"] += 1
        else:
            yield origin, text


def normalise(text: str, form: str) -> str:
    match form:
        case "halfwidth":
            return text.translate(HALFWIDTH)
        case "NFC" | "NFKC":
            return unicodedata.normalize(form, text)
    return text


def split_of(text: str, shares: dict) -> str:
    """The split of a document: test from the low end of its hash, valid from the high end, train between."""
    canonical = "".join(unicodedata.normalize("NFKC", text).split())
    position = int.from_bytes(hashlib.blake2b(canonical.encode(), digest_size=8).digest()) / 2**64
    if position < shares["test"]:
        return "test"
    return "valid" if position >= 1 - shares["valid"] else "train"


# --- shuffle ---------------------------------------------------------------------------------------------------------


def shuffle(
    documents: Iterable[tuple[str, str]], folder: Path, seed: int, deduplicate: bool, counts: Counter
) -> Iterator[tuple[str, str]]:
    """Documents (origin, text) in an order that depends on `seed` and the texts only, deduplicated if asked.

    Of equal texts every published split keeps one, and the main source keeps one if no published split has it.
    `folder` holds the buckets, as many bytes as the texts; it is empty again at the end.
    """
    buckets = scatter(keyed(documents, seed, deduplicate), folder, depth=0)
    for bucket in progress(buckets, what="shuffling", unit="buckets"):
        yield from sorted_bucket(bucket, depth=1, deduplicate=deduplicate, counts=counts)


def keyed(documents: Iterable[tuple[str, str]], seed: int, deduplicate: bool) -> Iterator[tuple[bytes, bytes]]:
    """The hash of each text, to sort by, with a byte for the origin and the text.

    The hash includes the number of the document when duplicates are kept, so that they are spread out.
    """
    for number, (origin, text) in enumerate(documents):
        raw = text.encode()
        salt = b"" if deduplicate else number.to_bytes(16)
        key = hashlib.blake2b(raw, digest_size=KEY_BYTES, key=seed.to_bytes(16), salt=salt).digest()
        yield key, bytes([ORIGINS.index(origin)]) + raw


def scatter(records: Iterable[tuple[bytes, bytes]], folder: Path, depth: int) -> list[Path]:
    """Append each record to the bucket that the next bits of its key name; return the buckets in order."""
    folder.mkdir(exist_ok=True)
    below = 8 * KEY_BYTES - BUCKET_BITS * (depth + 1)
    with ExitStack() as stack:
        buckets: dict[int, BinaryIO] = {}
        for key, raw in records:
            number = int.from_bytes(key) >> below & (1 << BUCKET_BITS) - 1
            if number not in buckets:
                buckets[number] = stack.enter_context((folder / f"{number:03d}").open("wb", buffering=1 << 15))
            buckets[number].write(key + len(raw).to_bytes(8) + raw)
    return sorted(folder.iterdir())


def read_bucket(path: Path) -> Iterator[tuple[bytes, bytes]]:
    with path.open("rb") as stream:
        while key := stream.read(KEY_BYTES):
            yield key, stream.read(int.from_bytes(stream.read(8)))


def sorted_bucket(path: Path, depth: int, deduplicate: bool, counts: Counter) -> Iterator[tuple[str, str]]:
    if path.stat().st_size > BUCKET_BYTES and BUCKET_BITS * (depth + 1) <= 8 * KEY_BYTES:
        smaller = scatter(read_bucket(path), path.with_name(path.name + ".d"), depth)
        path.unlink()
        for bucket in smaller:
            yield from sorted_bucket(bucket, depth + 1, deduplicate, counts)
        smaller[0].parent.rmdir()
        return
    last, seen = None, set()
    for key, raw in sorted(read_bucket(path)):
        if key != last:
            last, seen = key, set()
        origin = ORIGINS[raw[0]]
        if deduplicate and (origin in seen or (origin == MAIN and seen)):
            counts["duplicates"] += 1
            continue
        seen.add(origin)
        yield origin, raw[1:].decode()
    path.unlink()


# --- shards and statistics -------------------------------------------------------------------------------------------


class SplitWriter:
    """Writes the shards of one split, round-robin, so that every shard is a uniform sample."""

    def __init__(self, folder: Path, split: str, shards: int) -> None:
        names = [f"{split}-{number:05d}-of-{shards:05d}.jsonl" for number in range(shards)]
        self.paths = [folder / name for name in names]
        self.files = [path.open("w", encoding="utf-8") for path in self.paths]
        self.documents = self.characters = self.bytes = self.words = 0
        self.lengths = Counter()

    def write(self, text: str) -> None:
        self.files[self.documents % len(self.files)].write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
        self.documents += 1
        self.characters += len(text)
        self.bytes += len(text.encode())
        self.words += len(text.split())
        self.lengths[rounded(len(text))] += 1

    def stats(self) -> SplitStats:
        return {
            "documents": self.documents,
            "characters": self.characters,
            "bytes": self.bytes,
            "words": self.words,
            "length_quantiles": quantiles(self.lengths),
            "shards": [{"file": path.name} | described(path) for path in self.paths],
        }


class ShardWriters:
    """Writes the three splits; only train has more than one shard."""

    def __init__(self, folder: Path, shards: int) -> None:
        folder.mkdir()
        self.splits = {name: SplitWriter(folder, name, shards if name == "train" else 1) for name in SPLITS}

    def __enter__(self) -> "ShardWriters":
        return self

    def __exit__(self, *_) -> None:
        for split in self.splits.values():
            for file in split.files:
                file.close()

    def write(self, split: str, text: str) -> None:
        self.splits[split].write(text)


def rounded(length: int) -> int:
    """A length rounded down to three digits, so that counting lengths takes bounded memory."""
    unit = 10 ** max(0, len(str(length)) - 3)
    return length // unit * unit


def quantiles(lengths: Counter) -> dict[str, int]:
    """Quantiles of document length in characters, exact to three digits (nearest rank)."""
    if not lengths:
        return {}
    values = sorted(lengths)
    ranks = list(accumulate(lengths[value] for value in values))
    return {f"{q:g}": values[bisect_left(ranks, max(1, round(q * ranks[-1])))] for q in QUANTILES}


def check_not_empty(corpus: str, shards: ShardWriters, spec: dict, counts: Counter) -> None:
    kept = counts["read"] - counts["too_short"] - counts["duplicates"]
    if not kept:
        raise SeedbedError(
            f"the corpus is empty after cleaning: {counts['read']} documents read, "
            f"{counts['too_short']} shorter than min_chars {spec['min_chars']}, {counts['duplicates']} duplicates"
        )
    for name, split in shards.splits.items():
        share = spec["split"].get(name, 1)
        if not split.documents and share:
            where, advice = f"corpora.{corpus}.split.{name}", f"its share is {share}: raise it or use a larger corpus"
            if name == "train":
                where, advice = f"corpora.{corpus}.split", "valid and test take all: lower them or use a larger corpus"
            elif isinstance(share, dict):
                advice = "its own source has no text"
            raise SeedbedError(f"{where}: the {name} split got none of {kept} documents; {advice}")


def published_words(source: float | dict | None, documents: int) -> dict[str, int]:
    """`published_words` of a published split of PG-19, if all of its books are there; empty for any other."""
    if isinstance(source, dict) and source.get("hub", "").endswith("/pg19"):
        books, words = PG19.get(source["split"], (None, None))
        if documents == books:
            return {"published_words": words}
    return {}


# --- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shard:
    """A document shard of a built corpus, and what its file has to be."""

    path: Path
    facts: FileFacts

    @property
    def name(self) -> str:
        return self.path.name


def corpus_stats(corpus: Path) -> CorpusStats:
    return read_record(corpus / STATS, CorpusStats)


def shards(corpus: Path, split: str) -> list[Shard]:
    """Document shards of one split of a built corpus, in order."""
    listed = corpus_stats(corpus)["splits"][split]["shards"]
    return [Shard(corpus / "documents" / shard["file"], shard) for shard in listed]


def read_documents(shard: Shard, what: str | None = None) -> Iterator[str]:
    """Texts of one shard, verified first; where `what` is being done with them, its progress is shown.

    Not in one of several processes: who started those shows how many shards are done.
    """
    path = shard.path
    verify(path, shard.facts, path.parents[1] / STATS)
    alone = what is not None and parent_process() is None
    size = {"total": shard.facts["bytes"], "unit": "B", "unit_scale": True}
    with path.open("rb") as lines, progress(what=what, **size) if alone else nullcontext() as bar:
        for number, line in enumerate(lines, start=1):
            yield text_of(line, f"{path}: line {number}")
            if bar is not None:
                bar.update(len(line))


def text_of(line: bytes, where: str) -> str:
    """The text of a line of a shard, which may be damaged where sizes alone are verified."""
    try:
        return json.loads(line)["text"]
    except (ValueError, TypeError, LookupError):
        raise SeedbedError(f"{where}: damaged; expected an object with a text") from None
