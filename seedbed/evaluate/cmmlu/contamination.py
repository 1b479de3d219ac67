"""Which test questions of CMMLU occur in a training corpus.

A question is contaminated when a piece of it occurs in a document: 13 consecutive words, as for GPT-3 (arXiv
2005.14165, appendix C), or 20 consecutive characters where the script has no spaces between words. The text of a
question is the question and its four options. Texts are compared in Unicode's form NFKC, in lower case, by their
letters, marks and digits alone; everything else separates words and is not there between characters.

The pieces of all questions are looked for at once, by hashes, and what is found is compared as text. Memory grows with
the questions and the longest document, and not with the corpus.
"""

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from seedbed.checksums import sha256
from seedbed.data.corpus import Shard, read_documents, shards
from seedbed.data.formats import STATS
from seedbed.evaluate.cmmlu.questions import Question, load_questions, questions_identity
from seedbed.evaluate.figures import Identity
from seedbed.progress import progress
from seedbed.records import Record


class Counts(Record):
    asked: int
    contaminated: int
    too_short: int


class Place(Record):
    """A question by its place in its subject's test, from 0."""

    subject: str
    number: int


class Found(Counts):
    """The JSON of a search: which questions occur in a corpus, by which rule."""

    corpus: Identity
    questions: dict[str, str]  # their checksum
    rule: str
    by_subject: dict[str, Counts]
    found: list[Place]


CHARACTERS, WORDS = 20, 13
COUNTS = ("asked", "contaminated", "too_short")
BATCH = 1 << 17  # characters searched at once: arrays that stay in a core's cache
BASE = 0x9E3779B97F4A7C15  # of polynomial hashes modulo 2**64; odd, so that it has an inverse
PREFIX_BITS = 24


def find(source: dict, corpus: Path, processes: int = 1) -> tuple[Found, list[dict]]:
    """Counts of contaminated questions, and for each of these a row with its first match in a built corpus.

    `source` is that of a `cmmlu` evaluation. Only the train split counts; one process searches one shard at a time.
    A question's number is its place in its subject's test, from 0; a line's is its place in the shard, from 1.
    """
    dev, test = load_questions(source)
    asked = [(number, question) for name in test for number, question in enumerate(test[name])]
    indexes, too_short = index_questions(["\n".join([question.text, *question.options]) for _, question in asked])
    found = search([(shard, indexes) for shard in shards(corpus, "train")], processes)
    rows = [
        {"subject": question.subject, "number": number, "question": question.text, **found[place]}
        for place, (number, question) in enumerate(asked)
        if place in found
    ]
    by_subject = count_by_subject([question for _, question in asked], found, too_short)
    result = {
        "corpus": {"path": str(corpus), "sha256": sha256(corpus / STATS)},
        "questions": {"sha256": questions_identity(dev, test)},
        "rule": f"{CHARACTERS} characters or {WORDS} words, normalised",
        **{name: sum(counts[name] for counts in by_subject.values()) for name in COUNTS},
        "by_subject": by_subject,
        "found": [{key: row[key] for key in ("subject", "number")} for row in rows],
    }
    return result, rows


def count_by_subject(asked: list[Question], found: dict[int, dict], too_short: set[int]) -> dict[str, Counts]:
    counts = {}
    for place, question in enumerate(asked):
        own = counts.setdefault(question.subject, dict.fromkeys(COUNTS, 0))
        own["asked"] += 1
        own["contaminated"] += place in found
        own["too_short"] += place in too_short
    return counts


# --- normal form -----------------------------------------------------------------------------------------------------


def compared(character: str) -> bool:
    """Whether a character is a letter, a mark or a digit, by Unicode's categories."""
    return unicodedata.category(character)[0] in "LMN"


@cache
def table() -> np.ndarray:
    """The normal form of each code point that has a single compared character for it, else 0, uint32 [0x110000]."""
    codes = np.zeros(sys.maxunicode + 1, np.uint32)
    for code in range(len(codes)):
        form = unicodedata.normalize("NFKC", chr(code))
        if len(form) == 1 and compared(form):
            codes[code] = ord(form.lower()[0])
    return codes


@cache
def irregular() -> re.Pattern:
    """Characters that the table does not do: their normal form has several, or may join the character before.

    All beyond the basic plane are taken for such.
    """
    found = []
    for code in range(0x10000):
        form = unicodedata.normalize("NFKC", chr(code))
        joins = unicodedata.category(form[-1])[0] == "M" or "\u1160" <= form <= "\u11ff"  # marks; Hangul vowels, finals
        if any(map(compared, form)) and (len(form) > 1 or joins):
            found.append(re.escape(chr(code)))
    return re.compile(f"[{''.join(found)}\U00010000-\U0010ffff]")


def normalised(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Codes uint32 [characters] of the texts one after the other, 0 for what is not compared, and borders [texts].

    A border is the place of the 0 that follows a text.
    """
    # NFKC takes longer than all the rest of the search, and few documents need it.
    regular = [unicodedata.normalize("NFKC", text) if irregular().search(text) else text for text in texts]
    borders = np.cumsum([len(text) + 1 for text in regular]) - 1
    return table()[np.frombuffer("\n".join([*regular, ""]).encode("utf-32-le"), "<u4")], borders


# --- units and pieces ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Units:
    """Texts as characters or as words, one after the other, with a border of value 0 after each text."""

    codes: np.ndarray  # uint32 [characters]
    starts: np.ndarray  # int64 [units], places in `codes`
    values: np.ndarray  # uint64 [units]
    borders: np.ndarray  # int64 [texts], numbers of units

    def hashes(self, size: int) -> np.ndarray:
        """Hashes of the pieces of `size` units that begin at each unit and end before the last, uint64."""
        hashed = np.zeros(max(0, len(self.values) - size), np.uint64)
        for offset in range(size):  # Horner's rule
            hashed *= BASE
            hashed += self.values[offset : offset + len(hashed)]
        return hashed

    def piece(self, unit: int, size: int) -> str:
        """The text of `size` units from one on, words with a space between."""
        codes = self.codes[self.starts[unit] : self.starts[unit + size]]
        return " ".join("".join(chr(code or ord(" ")) for code in codes.tolist()).split())

    def text_of(self, units: np.ndarray) -> np.ndarray:
        """The number of the text that each unit is of."""
        return np.searchsorted(self.borders, units)


def characters(codes: np.ndarray, borders: np.ndarray) -> Units:
    kept = codes != 0
    kept[borders] = True
    codes = codes[kept]
    return Units(codes, np.arange(len(codes)), codes.astype(np.uint64), np.flatnonzero(codes == 0))


def words(codes: np.ndarray, borders: np.ndarray) -> Units:
    first = codes != 0
    first[1:] &= codes[:-1] == 0
    first[borders] = True
    starts = np.flatnonzero(first)
    # The sum of code * base**place over a word, divided by base**start, is the same wherever the word stands.
    powers = np.full(len(codes), BASE, np.uint64).cumprod()
    inverses = np.full(len(codes), pow(BASE, -1, 2**64), np.uint64).cumprod()
    values = np.add.reduceat(codes * powers, starts) * inverses[starts]
    return Units(codes, starts, values, np.searchsorted(starts, borders))


CUTS = {CHARACTERS: characters, WORDS: words}  # by the size of a piece


def in_words(codes: np.ndarray) -> bool:
    """Whether most letters of a normalised text are of scripts that put spaces between words (not Han, kana, Yi)."""
    unspaced = ((codes >= 0x2E80) & (codes < 0xA4D0)) | (codes >= 0x20000)
    letters = (codes > 0) & ((codes < ord("0")) | (codes > ord("9")))
    return 2 * np.count_nonzero(unspaced) < np.count_nonzero(letters)


# --- pieces of questions ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Index:
    """The pieces of `size` units of some questions, in the order of their hashes."""

    size: int
    units: Units
    hashes: np.ndarray  # uint64 [pieces], ascending
    places: np.ndarray  # int64 [pieces], the first unit of each
    owners: np.ndarray  # int64 [pieces], the number of the question that each is of
    prefixes: np.ndarray  # bool [2**PREFIX_BITS], whether a hash begins with these bits

    def matches(self, units: Units) -> Iterator[tuple[int, int, str]]:
        """The question, the number of the text and the piece itself, for all pieces that occur in the texts."""
        hashes = units.hashes(self.size)
        likely = np.flatnonzero(self.prefixes[prefix(hashes)])
        low, high = (np.searchsorted(self.hashes, hashes[likely], side) for side in ("left", "right"))
        same = low < high
        matched = likely[same], units.text_of(likely[same]), low[same], high[same]
        for unit, text, begin, end in zip(*(column.tolist() for column in matched), strict=True):
            piece = units.piece(unit, self.size)
            for entry in range(begin, end):
                if self.units.piece(self.places[entry], self.size) == piece:
                    yield int(self.owners[entry]), text, piece

    def without(self, found: Iterable[int]) -> "Index":
        """The pieces of the other questions: those already found would only be found again."""
        kept = ~np.isin(self.owners, list(found))
        return replace(self, hashes=self.hashes[kept], places=self.places[kept], owners=self.owners[kept])


def prefix(hashes: np.ndarray) -> np.ndarray:
    return hashes >> np.uint64(64 - PREFIX_BITS)


def index_questions(texts: list[str]) -> tuple[list[Index], set[int]]:
    """Indexes of questions in characters and in words, and the numbers of questions too short for any piece."""
    numbers = {CHARACTERS: [], WORDS: []}
    for number, text in enumerate(texts):
        codes, _ = normalised([text])
        numbers[WORDS if in_words(codes) else CHARACTERS].append(number)
    indexes = [index([texts[number] for number in own], own, size) for size, own in numbers.items() if own]
    return indexes, set(range(len(texts))).difference(*(part.owners.tolist() for part in indexes))


def index(texts: list[str], numbers: list[int], size: int) -> Index:
    units = CUTS[size](*normalised(texts))
    hashes = units.hashes(size)
    places = np.arange(len(hashes))
    places = places[units.text_of(places) == units.text_of(places + size)]  # else there is a border within
    places = places[np.argsort(hashes[places], kind="stable")]
    prefixes = np.zeros(1 << PREFIX_BITS, bool)
    prefixes[prefix(hashes[places])] = True
    return Index(size, units, hashes[places], places, np.array(numbers)[units.text_of(places)], prefixes)


# --- search ----------------------------------------------------------------------------------------------------------


def search(jobs: list[tuple[Shard, list[Index]]], processes: int) -> dict[int, dict]:
    """The first match of each contaminated question in the order of the shards, by the question's number."""
    if processes <= 1:
        searched = [search_shard(job) for job in jobs]
    else:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            searched = list(progress(pool.map(search_shard, jobs), what="shards", unit="shards", total=len(jobs)))
    return {number: match for found in reversed(searched) for number, match in found.items()}


def search_shard(job: tuple[Shard, list[Index]]) -> dict[int, dict]:
    """The first match of each contaminated question with a document of one shard: piece, file and line."""
    shard, indexes = job
    found, lines = {}, 0
    for texts in batches(read_documents(shard, f"searching {shard.name}")):
        codes, borders = normalised(texts)
        known = len(found)
        for part in indexes:
            for number, text, piece in part.matches(CUTS[part.size](codes, borders)):
                found.setdefault(number, {"piece": piece, "file": shard.name, "line": lines + text + 1})
        if len(found) > known:
            indexes = [part.without(found) for part in indexes]
        lines += len(texts)
    return found


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in order, as many at a time as make `BATCH` characters."""
    batch, size = [], 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
