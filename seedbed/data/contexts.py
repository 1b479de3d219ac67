"""Long documents as token shards, some of them held out, and the contexts that training and evaluation read from them.

The shards are those of `seedbed.data.tokens`. A context is `length` tokens of one document, with the `continuation`
tokens that follow it there. A control has documents of meaningless ids, so that knowing the language does not help a
model.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from seedbed.data.corpus import SPLITS, Shard, read_documents, shards
from seedbed.data.formats import INDEX, Index, TokenShard
from seedbed.data.tokenizer import load_for_encoding
from seedbed.data.tokens import BLOCK, OURS, TokenSplit, encoded, header, mixed, permuted, run_jobs, write_shard
from seedbed.errors import SeedbedError
from seedbed.files import replacing
from seedbed.records import write_record

HELD_OUT_FROM = SPLITS[::-1]  # what pretraining never saw is held out first
RANKS = np.array([0, 0, 0, 0, 1, 1, 2, 3])  # equally likely: the four successors of an id have 1/2, 1/4, 1/8, 1/8
SUCCESSORS = 4
EVALUATION_SEED = 0

# --- writing ---------------------------------------------------------------------------------------------------------


def build_contexts(spec: dict, corpus: Path | None, tokenizer: Path, target: Path, processes: int = 1) -> Index:
    """Write `target/shards/*.bin` and `target/index.json` with the splits train and held_out; return the index.

    `spec` is a set of contexts of the configuration; `corpus` the directory of a built corpus, unless it is a control.
    One process encodes one shard at a time, so that the result does not depend on `processes`. Raises SeedbedError when
    nothing would be left for training; `target` is then unchanged.
    """
    if corpus is None and "control" not in spec:
        raise SeedbedError("contexts: found neither a corpus nor a control; expected the directory of a built corpus")
    index = header(tokenizer)
    with replacing(target, OURS) as partial:
        (partial / "shards").mkdir(parents=True)
        if "control" in spec:
            index |= write_control(spec, tokenizer, partial / "shards", index)
        else:
            index |= write_long(spec, corpus, tokenizer, partial / "shards", index["dtype"], processes)
        write_record(partial / INDEX, Index, index)
    return index


def write_long(spec: dict, corpus: Path, tokenizer: Path, folder: Path, dtype: str, processes: int) -> dict:
    """Encode the beginnings of the long documents of a corpus; return their part of the index."""
    parts, held_out_from = divide(spec, corpus, processes)
    jobs = []
    for split, own in parts.items():
        for number, part in enumerate(own):
            jobs.append((part, spec, tokenizer, folder / shard_name(split, number, len(own)), dtype))
    written = iter(run_jobs(encode_part, jobs, processes))
    splits = {}
    for split, own in parts.items():
        files = list(islice(written, len(own)))
        splits[split] = entry(sum(stop - first for _, first, stop in own), files)
    return {"splits": splits, "held_out_from": held_out_from}


def divide(spec: dict, corpus: Path, processes: int) -> tuple[dict[str, list[tuple[Shard, int, int]]], dict[str, int]]:
    """Which long documents of which shards go to which split, and how many are held out of each split of the corpus.

    A part (shard, first, stop) is the long documents first..stop-1 of a document shard.
    """
    sources = [(split, shard) for split in HELD_OUT_FROM for shard in shards(corpus, split)]
    counted = run_jobs(count_long, [(shard, spec["min_chars"]) for _, shard in sources], processes)
    in_train = sum(count["long"] for (split, _), count in zip(sources, counted, strict=True) if split == "train")
    check_enough(spec, corpus, counted, in_train)
    parts, held_out_from = {"train": [], "held_out": []}, dict.fromkeys(HELD_OUT_FROM, 0)
    remaining = spec["held_out"]
    for (split, shard), count in zip(sources, counted, strict=True):
        held = min(remaining, count["long"])
        remaining -= held
        held_out_from[split] += held
        if held:
            parts["held_out"].append((shard, 0, held))
        if split == "train" and held < count["long"]:
            parts["train"].append((shard, held, count["long"]))
    return parts, held_out_from


def count_long(job: tuple[Shard, int]) -> dict:
    """How many documents a shard has, how many of them are long, and the characters of the longest."""
    shard, min_chars = job
    documents = long = longest = 0
    for text in read_documents(shard, f"counting {shard.name}"):
        documents += 1
        long += len(text) >= min_chars
        longest = max(longest, len(text))
    return {"documents": documents, "long": long, "longest": longest}


def check_enough(spec: dict, corpus: Path, counted: list[dict], in_train: int) -> None:
    documents, long = (sum(count[key] for count in counted) for key in ("documents", "long"))
    wanted = f"at least min_chars {spec['min_chars']} characters"
    expected = f"expected more than the {spec['held_out']} of held_out"
    if not long:
        longest = max(count["longest"] for count in counted)
        raise SeedbedError(
            f"{corpus}: none of its {documents} documents has {wanted}, the longest has {longest}; {expected}"
        )
    if long <= spec["held_out"]:
        raise SeedbedError(f"{corpus}: {long} of its {documents} documents have {wanted}; {expected}")
    if not in_train:
        raise SeedbedError(
            f"{corpus}: {long} of its {documents} documents have {wanted}, none of them in its train split; "
            "expected some there to train on"
        )


def encode_part(job: tuple[tuple[Shard, int, int], dict, Path, Path, str]) -> TokenShard:
    """Encode some long documents of one document shard into one token shard; return its entry in the index."""
    (shard, first, stop), spec, tokenizer, target, dtype = job
    long = (text for text in read_documents(shard, f"encoding {shard.name}") if len(text) >= spec["min_chars"])
    texts = (text[: spec["max_chars"]] for text in islice(long, first, stop))
    return write_shard(encoded(texts, tokenizer), target, dtype)


def shard_name(split: str, number: int, count: int) -> str:
    return f"{split}-{number:05d}-of-{count:05d}.bin"


def entry(documents: int, files: list[TokenShard]) -> dict:
    """The entry of a split in the index."""
    return {"tokens": sum(info["tokens"] for info in files), "documents": documents, "shards": files}


# --- controls --------------------------------------------------------------------------------------------------------


def write_control(spec: dict, tokenizer: Path, folder: Path, index: dict) -> dict:
    """Write documents of meaningless ids, the held-out ones drawn first; return their part of the index."""
    if spec["documents"] <= spec["held_out"]:
        raise SeedbedError(
            f"control {spec['control']}: {spec['documents']} documents; "
            f"expected more than the {spec['held_out']} of held_out"
        )
    draw = control(spec, ordinary_ids(tokenizer))
    splits = {}
    for split, documents in (("held_out", spec["held_out"]), ("train", spec["documents"] - spec["held_out"])):
        blocks = ended_blocks(draw, documents, spec["tokens"], index["eos_id"])
        written = write_shard(blocks, folder / shard_name(split, 0, 1), index["dtype"])
        splits[split] = entry(documents, [written])
    return {"splits": splits}


def ended_blocks(draw: Callable[[int], np.ndarray], documents: int, tokens: int, eos: int) -> Iterator[np.ndarray]:
    """Drawn documents with the end-of-sequence token, int64 [some documents, tokens + 1], about BLOCK ids at once."""
    rows = max(1, BLOCK // tokens)
    for first in range(0, documents, rows):
        yield np.pad(draw(min(rows, documents - first)), ((0, 0), (0, 1)), constant_values=eos)


def control(spec: dict, allowed: np.ndarray) -> Callable[[int], np.ndarray]:
    """A function that draws the next documents of a control, int64 [documents, tokens], given their number."""
    generator, size, tokens = np.random.default_rng(spec["seed"]), len(allowed), spec["tokens"]
    if spec["control"] == "random":
        return lambda documents: allowed[generator.integers(size, size=(documents, tokens))]
    follow = successors(size, generator)
    return lambda documents: allowed[walks(follow, documents, tokens, generator)]


def successors(size: int, generator: np.random.Generator) -> np.ndarray:
    """Four different random successors of each state, the likeliest first, int64 [size, SUCCESSORS]."""
    first = generator.integers(size, size=(size, 1))
    # Three steps of at most a quarter of the circle never return to their start.
    steps = generator.integers(1, size // SUCCESSORS + 1, size=(size, SUCCESSORS - 1))
    return np.cumsum(np.hstack([first, steps]), axis=1) % size


def walks(follow: np.ndarray, count: int, length: int, generator: np.random.Generator) -> np.ndarray:
    """Random walks from state to successor with random starts, int64 [count, length]."""
    states = np.empty((count, length), np.int64)
    states[:, 0] = generator.integers(len(follow), size=count)
    for place in range(1, length):
        states[:, place] = follow[states[:, place - 1], RANKS[generator.integers(len(RANKS), size=count)]]
    return states


def ordinary_ids(tokenizer: Path) -> np.ndarray:
    """The ids of a tokenizer that are not special tokens, sorted, int64 [ids]."""
    encoder, eos = load_for_encoding(tokenizer)
    special = {id for id, token in encoder.get_added_tokens_decoder().items() if token.special}
    return np.array(sorted(set(encoder.get_vocab().values()) - special - {eos}), np.int64)


def patterned(ids: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Patterned random text (ICAE, arXiv 2307.06945): the next of the sorted `allowed` ids after each id, cyclic.

    Both are int64; the result has the shape of `ids`.
    """
    return allowed[np.searchsorted(allowed, ids, side="right") % len(allowed)]


# --- reading ---------------------------------------------------------------------------------------------------------


class Contexts:
    """The contexts of a split: as many consecutive ones as fit into each document, each with its continuation.

    Raises SeedbedError when no document is long enough for one.
    """

    def __init__(self, folder: Path | str, split: str, length: int, continuation: int, seed: int) -> None:
        self.split = TokenSplit(folder, split)
        self.vocab_size, self.eos_id = self.split.vocab_size, self.split.eos_id
        self.length, self.continuation, self.seed = length, continuation, seed
        ends = self.split.document_ends
        # Per document, int64 [documents]: tokens without EOS, position of the first, contexts in earlier documents.
        self.sizes = np.diff(ends, prepend=-1) - 1
        self.starts = ends - self.sizes
        counts = np.maximum(self.sizes - continuation, 0) // length
        self.before = np.cumsum(counts) - counts
        self.per_epoch = int(counts.sum())
        if not self.per_epoch:
            raise SeedbedError(
                f"{self.split.name}: no document is long enough: the longest of {len(ends)} has "
                f"{self.sizes.max(initial=0)} tokens; expected at least {length + continuation}, "
                f"for a context of {length} and a continuation of {continuation}"
            )

    def window(self, number: int) -> np.ndarray:
        """The `number`-th context of the whole training, counted over epochs, int64 [length + continuation].

        Every epoch has each context once; those of a document are shifted by some of the tokens that are left over.
        """
        epoch, place = divmod(number, self.per_epoch)
        place = permuted(place, self.per_epoch, self.seed, epoch)
        document = self.document(place)
        left_over = int(self.sizes[document] - self.continuation) % self.length
        key = mixed(mixed(mixed(self.seed) ^ epoch) ^ document)
        return self.read(place, document, key % (left_over + 1))

    def at(self, place: int) -> np.ndarray:
        """Context `place` (below per_epoch) of an evaluation, int64 [length + continuation].

        The order is the same for every seed, and the first few already come from all over the split.
        """
        place = permuted(place, self.per_epoch, EVALUATION_SEED, 0)
        return self.read(place, self.document(place), 0)

    def document(self, place: int) -> int:
        """The document that has the context at that place of the stream."""
        return int(np.searchsorted(self.before, place, side="right")) - 1

    def read(self, place: int, document: int, offset: int) -> np.ndarray:
        start = int(self.starts[document]) + offset + (place - int(self.before[document])) * self.length
        return self.split.read(start, start + self.length + self.continuation)
