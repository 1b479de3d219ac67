"""From raw documents to a cleaned, deduplicated, shuffled and split corpus, in memory that does not grow with it.

The shuffle is an external sort by a keyed hash of each text: scatter into buckets by its first bits, then sort each
bucket in memory. It depends on no order of the source, and equal documents meet in one bucket, where they are counted
and dropped. The split depends on the text alone (without white space, compatibility-normalised), so that a document
stays in its split whatever else of the configuration changes.
"""

import hashlib
import json
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from seedbed.errors import SeedbedError
from seedbed.files import replacing, sha256, write_json

SPLITS = ("train", "valid", "test")
KEY_BYTES = 16
BUCKET_BITS = 6  # of the key at a time: 64 files open at once is well below what systems allow
BUCKET_BYTES = 16 << 20  # a larger bucket is scattered again
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)

# Full-width digits and letters only: NFKC would also change Chinese punctuation.
HALFWIDTH = {code: code - 0xFEE0 for code in range(0xFF10, 0xFF5B) if chr(code).isalnum()}


def build_corpus(texts: Iterable[str], spec: dict, target: Path) -> dict:
    """Write `target/documents/<split>-<n>-of-<m>.jsonl` and `target/stats.json`; return the stats.

    `spec` is a corpus of the configuration. Raises SeedbedError when nothing is left, or a split is empty; then
    `target` is as it was.
    """
    counts = Counter()
    cleaned = clean(texts, spec, counts)
    with replacing(target) as partial:
        partial.mkdir(parents=True)
        with ShardWriters(partial / "documents", spec["shards"]) as shards:
            for text in shuffle(cleaned, partial / "shuffle", spec["seed"], spec["deduplicate"], counts):
                shards.write(split_of(text, spec["split"]), text)
        (partial / "shuffle").rmdir()
        check_not_empty(shards, spec, counts)
        stats = {"read": counts["read"], "too_short": counts["too_short"], "duplicates": counts["duplicates"]}
        stats["splits"] = {name: split.stats() for name, split in shards.splits.items()}
        write_json(partial / "stats.json", stats)
    return stats


def clean(texts: Iterable[str], spec: dict, counts: Counter) -> Iterator[str]:
    """Normalised texts of at least `min_chars` characters, without surrounding white space."""
    for text in tqdm(texts, "documents", unit="", unit_scale=True, disable=None):
        counts["read"] += 1
        text = normalise(text, spec["unicode"]).strip()
        if len(text) < max(1, spec["min_chars"]):
            counts["too_short"] += 1
        else:
            yield text


def normalise(text: str, form: str) -> str:
    match form:
        case "halfwidth":
            return text.translate(HALFWIDTH)
        case "NFC" | "NFKC":
            return unicodedata.normalize(form, text)
    return text


def split_of(text: str, shares: dict) -> str:
    """The split of a document: test from the low end of its hash, valid from the high end, train between."""
    essence = "".join(unicodedata.normalize("NFKC", text).split())
    position = int.from_bytes(hashlib.blake2b(essence.encode(), digest_size=8).digest()) / 2**64
    if position < shares["test"]:
        return "test"
    return "valid" if position >= 1 - shares["valid"] else "train"


# --- shuffle ---------------------------------------------------------------------------------------------------------


def shuffle(texts: Iterable[str], folder: Path, seed: int, deduplicate: bool, counts: Counter) -> Iterator[str]:
    """The texts in an order that is a function of `seed` and the texts, without (or with) repeated ones.

    `folder` takes the buckets, as many bytes as the texts; it is empty again at the end.
    """
    for bucket in scatter(keyed(texts, seed, deduplicate), folder, depth=0):
        yield from sorted_bucket(bucket, depth=1, deduplicate=deduplicate, counts=counts)


def keyed(texts: Iterable[str], seed: int, deduplicate: bool) -> Iterator[tuple[bytes, bytes]]:
    """Texts with the hash to sort by; the number of the record goes in when repetitions are to be kept apart."""
    for number, text in enumerate(texts):
        raw = text.encode()
        salt = b"" if deduplicate else number.to_bytes(16)
        yield hashlib.blake2b(raw, digest_size=KEY_BYTES, key=seed.to_bytes(16), salt=salt).digest(), raw


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


def sorted_bucket(path: Path, depth: int, deduplicate: bool, counts: Counter) -> Iterator[str]:
    if path.stat().st_size > BUCKET_BYTES and BUCKET_BITS * (depth + 1) <= 8 * KEY_BYTES:
        smaller = scatter(read_bucket(path), path.with_name(path.name + ".d"), depth)
        path.unlink()
        for bucket in smaller:
            yield from sorted_bucket(bucket, depth + 1, deduplicate, counts)
        smaller[0].parent.rmdir()
        return
    last = None
    for key, raw in sorted(read_bucket(path)):
        if deduplicate and key == last:
            counts["duplicates"] += 1
            continue
        last = key
        yield raw.decode()
    path.unlink()


# --- shards and statistics -------------------------------------------------------------------------------------------


class SplitWriter:
    """Shards of one split; documents go to them in turn, so that every shard is a uniform sample."""

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

    def stats(self) -> dict:
        return {
            "documents": self.documents,
            "characters": self.characters,
            "bytes": self.bytes,
            "words": self.words,
            "length_quantiles": quantiles(self.lengths),
            "shards": [{"file": path.name, "sha256": sha256(path)} for path in self.paths],
        }


class ShardWriters:
    """Writers of the three splits; only train has more than one shard."""

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
    """A length to three significant digits, so that counting lengths takes bounded memory."""
    unit = 10 ** max(0, len(str(length)) - 3)
    return length // unit * unit


def quantiles(lengths: Counter) -> dict[str, int]:
    """Quantiles of document length in characters, exact to three digits (nearest rank)."""
    if not lengths:
        return {}
    values = sorted(lengths)
    ranks = list(accumulate(lengths[value] for value in values))
    return {f"{q:g}": values[bisect_left(ranks, max(1, round(q * ranks[-1])))] for q in QUANTILES}


def check_not_empty(shards: ShardWriters, spec: dict, counts: Counter) -> None:
    kept = counts["read"] - counts["too_short"] - counts["duplicates"]
    if not kept:
        raise SeedbedError(
            f"the corpus is empty after cleaning: {counts['read']} documents read, "
            f"{counts['too_short']} shorter than min_chars {spec['min_chars']}, {counts['duplicates']} duplicates"
        )
    for name, split in shards.splits.items():
        if not split.documents and (name == "train" or spec["split"][name]):
            raise SeedbedError(f"the {name} split got none of {kept} documents; raise its share or use a larger corpus")


def read_documents(path: Path) -> Iterator[str]:
    """Texts of one shard."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["text"]
