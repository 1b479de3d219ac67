import hashlib
import json
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT, contents, corpus_spec, spec_file

from seedbed.data import corpus as corpus_module
from seedbed.data.corpus import build_corpus, normalise, quantiles, read_documents, shards, shuffle, split_of
from seedbed.errors import SeedbedError
from seedbed.files import read_json

OWN = {"files": "own"}  # marks a split that has a source of its own; its documents are handed over


def everything(folder: Path) -> dict[str, list[str]]:
    """Texts of each split of a built corpus, in the order of the shards."""
    found: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for split, own in found.items():
        for shard in shards(folder, split):
            own += read_documents(shard)
    return found


def test_every_document_is_kept_once(texts: list[str], corpus: Path) -> None:
    assert sorted(sum(everything(corpus).values(), [])) == sorted(texts)


def test_stats_are_those_of_the_documents(texts: list[str], corpus: Path) -> None:
    stats, found = read_json(corpus / "stats.json"), everything(corpus)
    assert (stats["read"], stats["duplicates"], stats["too_short"]) == (300, 0, 0)
    for split, kept in found.items():
        facts = stats["splits"][split]
        assert facts["documents"] == len(kept) > 0
        assert facts["characters"] == sum(map(len, kept))
        assert facts["bytes"] == sum(len(text.encode()) for text in kept)
        assert facts["words"] == sum(len(text.split()) for text in kept)
        assert facts["length_quantiles"]["1"] == max(map(len, kept))
    assert len(stats["splits"]["train"]["shards"]) == 2


def mixed(texts: list[str], folder: Path, seed: int = 0) -> list[str]:
    return [text for _, text in shuffle([("main", text) for text in texts], folder, seed, True, Counter())]


def test_the_order_is_a_function_of_seed_and_texts(texts: list[str], tmp_path: Path) -> None:
    def shuffled(given: list[str], seed: int) -> list[str]:
        return mixed(given, tmp_path / "s", seed)

    assert shuffled(texts, 1) == shuffled(texts[::-1], 1)
    assert shuffled(texts, 1) != shuffled(texts, 2)
    assert shuffled(texts, 1) not in (texts, sorted(texts))


def test_large_buckets_are_scattered_again(texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = mixed(texts, tmp_path / "a")
    monkeypatch.setattr(corpus_module, "BUCKET_BYTES", 100)
    assert mixed(texts, tmp_path / "b") == expected
    assert list((tmp_path / "b").iterdir()) == []


@pytest.mark.parametrize("deduplicate", [True, False])
def test_the_order_is_that_of_the_keyed_hash(texts: list[str], tmp_path: Path, deduplicate: bool) -> None:
    given = texts + texts[:20]

    def key(number: int) -> bytes:
        salt = b"" if deduplicate else number.to_bytes(16)
        return hashlib.blake2b(given[number].encode(), digest_size=16, key=(7).to_bytes(16), salt=salt).digest()

    kept = texts if deduplicate else given
    expected = [given[number] for number in sorted(range(len(kept)), key=key)]
    build_corpus(given, corpus_spec(seed=7, shards=1, deduplicate=deduplicate), tmp_path / "corpus")
    found = everything(tmp_path / "corpus")
    assert found == {
        name: [text for text in expected if split_of(text, {"valid": 0.1, "test": 0.1}) == name] for name in found
    }


def test_duplicates_are_dropped_or_kept(texts: list[str], tmp_path: Path) -> None:
    doubled = texts + [f"  {text}\n" for text in texts[:50]]
    dropped = build_corpus(doubled, corpus_spec(), tmp_path / "dropped")
    assert dropped["duplicates"] == 50
    kept = build_corpus(doubled, corpus_spec(deduplicate=False), tmp_path / "kept")
    assert kept["duplicates"] == 0
    assert len(sum(everything(tmp_path / "kept").values(), [])) == 350


def test_a_document_stays_in_its_split_whatever_changes(texts: list[str], tmp_path: Path) -> None:
    changes = [
        {"seed": 5},
        {"shards": 7},
        {"unicode": "NFKC"},
        {"min_chars": 200},
        {"deduplicate": False},
        {"split": {"valid": 0.2, "test": 0.1}},
    ]
    splits = [everything_by_text(texts, {}, tmp_path / "base")]
    splits += [everything_by_text(texts, change, tmp_path / str(number)) for number, change in enumerate(changes)]
    for other in splits[1:-1]:
        assert all(splits[0][essence] == split for essence, split in other.items())
    moved = {(splits[0][essence], split) for essence, split in splits[-1].items() if splits[0][essence] != split}
    assert moved == {("train", "valid")}


def everything_by_text(texts: list[str], change: dict, folder: Path) -> dict[str, str]:
    build_corpus(texts, corpus_spec(**change), folder)
    found = everything(folder)
    return {normalise(text, "NFKC"): split for split, kept in found.items() for text in kept}


def test_split_shares_are_met() -> None:
    counts = Counter(split_of(f"text {number}", {"valid": 0.2, "test": 0.1}) for number in range(5000))
    assert abs(counts["valid"] / 5000 - 0.2) < 0.02
    assert abs(counts["test"] / 5000 - 0.1) < 0.02


def test_only_digits_and_letters_become_half_width() -> None:
    assert normalise("１９９８年，（Ａｂ）！", "halfwidth") == "1998年，（Ab）！"
    assert normalise("１，", "NFKC") == "1,"
    assert normalise("１，", "none") == "１，"


def test_quantiles_are_nearest_ranks() -> None:
    assert quantiles(Counter(range(1, 101)))["0.5"] == 50
    assert quantiles(Counter()) == {}


@pytest.mark.parametrize(
    ("given", "changes", "told"),
    [
        ([], {}, "empty after cleaning: 0 documents read"),
        (["短"] * 3, {"min_chars": 5}, "3 documents read, 3 shorter than min_chars 5"),
        (["只有一篇"], {"split": {"valid": 0.1, "test": 0.1}}, "split got none of 1 documents"),
    ],
)
def test_a_corpus_without_documents_is_told_and_leaves_nothing(
    given: list[str], changes: dict, told: str, tmp_path: Path
) -> None:
    with pytest.raises(SeedbedError, match=told):
        build_corpus(given, corpus_spec(**changes), tmp_path / "corpus")
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_fails_leaves_what_was_there(texts: list[str], tmp_path: Path) -> None:
    build_corpus(texts, corpus_spec(), tmp_path / "corpus")
    before = (tmp_path / "corpus" / "stats.json").read_text()

    def failing() -> Iterator[str]:
        yield from texts[:100]
        raise SeedbedError("source: line 7: not UTF-8")

    with pytest.raises(SeedbedError, match="line 7"):
        build_corpus(failing(), corpus_spec(seed=1), tmp_path / "corpus")
    assert (tmp_path / "corpus" / "stats.json").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


@pytest.mark.parametrize("own", [False, True])
def test_memory_does_not_grow_with_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool) -> None:
    monkeypatch.setattr(corpus_module, "BUCKET_BYTES", 1 << 14)
    spec = corpus_spec(split={"valid": OWN if own else 0.1, "test": 0.1})

    def made(prefix: str, count: int) -> Iterator[str]:
        return (f"{prefix}{number} " * 100 for number in range(count))

    def peak(count: int) -> int:
        main, valid = made("", count), made("v", count)
        tracemalloc.start()
        build_corpus(main, spec, tmp_path / str(count), {"valid": valid} if own else None)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(50)  # imports
    # Other threads of the process are traced, too: what this one needs is the least of several.
    assert min(peak(20_000) for _ in range(3)) < 1.3 * peak(1000)


# --- splits with sources of their own --------------------------------------------------------------------------------


@pytest.fixture
def parts(texts: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Main source and published splits: each split repeats one of its own and shares texts with all others."""
    valid, test = texts[:40], texts[35:80]
    return texts[30:], {"valid": valid + [f" {valid[0]}\n"], "test": [*test, test[3]]}


@pytest.mark.parametrize("bucket", [100, 1 << 24])
def test_a_published_split_is_complete_and_training_lacks_it(
    texts: list[str], parts: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: int
) -> None:
    monkeypatch.setattr(corpus_module, "BUCKET_BYTES", bucket)
    main, published = parts
    stats = build_corpus(main, corpus_spec(split={"valid": OWN, "test": OWN}), tmp_path / "corpus", published)
    found = everything(tmp_path / "corpus")
    assert {name: sorted(kept) for name, kept in found.items()} == {
        "train": sorted(texts[80:]),
        "valid": sorted(texts[:40]),
        "test": sorted(texts[35:80]),
    }
    assert found["valid"] != texts[:40]
    assert (stats["read"], stats["too_short"], stats["duplicates"]) == (270 + 41 + 46, 0, 50 + 2)
    assert {name: facts["documents"] for name, facts in stats["splits"].items()} == {
        "train": 220,
        "valid": 40,
        "test": 45,
    }


def test_beside_a_published_split_the_other_is_a_share(texts: list[str], tmp_path: Path) -> None:
    main, valid = texts[:250], texts[240:]
    build_corpus(main, corpus_spec(split={"valid": OWN, "test": 0.1}), tmp_path / "corpus", {"valid": valid})
    found = everything(tmp_path / "corpus")
    expected = {text: split_of(text, {"valid": 0, "test": 0.1}) for text in texts[:240]}
    assert sorted(found["valid"]) == sorted(valid)
    assert sorted(found["test"]) == sorted(text for text, split in expected.items() if split == "test")
    assert sorted(found["train"]) == sorted(text for text, split in expected.items() if split == "train")
    assert 0 < len(found["test"]) < 60


def test_a_published_split_moves_no_document_of_the_source(texts: list[str], tmp_path: Path) -> None:
    build_corpus(texts[50:], corpus_spec(split={"valid": 0, "test": 0.1}), tmp_path / "alone")
    for name, given in (("beside", texts[:50]), ("reversed", texts[49::-1])):
        build_corpus(texts[50:], corpus_spec(split={"valid": OWN, "test": 0.1}), tmp_path / name, {"valid": given})
    alone, beside = everything(tmp_path / "alone"), everything(tmp_path / "beside")
    assert (beside["train"], beside["test"]) == (alone["train"], alone["test"])
    assert everything(tmp_path / "reversed") == beside


def test_repeated_documents_are_kept_everywhere_if_they_are_to_be(parts: tuple, tmp_path: Path) -> None:
    main, published = parts
    spec = corpus_spec(split={"valid": OWN, "test": OWN}, deduplicate=False)
    stats = build_corpus(main, spec, tmp_path / "corpus", published)
    assert stats["duplicates"] == 0
    assert {name: len(kept) for name, kept in everything(tmp_path / "corpus").items()} == {
        "train": 270,
        "valid": 41,
        "test": 46,
    }


def test_a_published_split_is_cleaned_and_counted_like_the_source(texts: list[str], tmp_path: Path) -> None:
    spec = corpus_spec(split={"valid": OWN, "test": 0.1}, unicode="NFKC", min_chars=5)
    stats = build_corpus(texts, spec, tmp_path / "corpus", {"valid": ["  １２３４５ ６\n", "短"]})
    assert everything(tmp_path / "corpus")["valid"] == ["12345 6"]
    assert stats["too_short"] == 1
    facts = stats["splits"]["valid"]
    assert (facts["documents"], facts["characters"], facts["bytes"], facts["words"]) == (1, 7, 7, 2)


@pytest.mark.parametrize(
    ("valid", "told"),
    [
        (["短"], "the valid split got none of 10 documents; its own source has no text"),
        (None, "the train split got none"),
    ],
)
def test_a_published_split_without_documents_or_with_all_is_told(
    texts: list[str], tmp_path: Path, valid: list[str] | None, told: str
) -> None:
    spec = corpus_spec(split={"valid": OWN, "test": 0}, min_chars=5)
    with pytest.raises(SeedbedError, match=told):
        build_corpus(texts[:10], spec, tmp_path / "corpus", {"valid": valid or texts[:10]})
    assert list(tmp_path.iterdir()) == []


def test_the_script_reads_the_sources_of_splits(texts: list[str], text_file: Path, tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text("".join(json.dumps({"text": f"自 {n}"}) + "\n" for n in range(3)))
    own = {"files": str(tmp_path / "own.jsonl")}
    spec = corpus_spec(source={"files": str(text_file)}, split={"valid": 0.1, "test": own})
    command = [sys.executable, "scripts/build_corpus.py", "--corpus", "c", "--spec", spec_file(tmp_path, spec)]
    subprocess.run([*command, "--out", tmp_path / "c"], cwd=ROOT, check=True, capture_output=True)
    found = everything(tmp_path / "c")
    assert sorted(found["test"]) == ["自 0", "自 1", "自 2"]
    assert sorted(found["train"] + found["valid"]) == sorted(texts)


# --- PG-19 -----------------------------------------------------------------------------------------------------------


def pg19(split: str, hub: str = "deepmind/pg19") -> dict:
    return {"hub": hub, "split": split, "revision": "main"}


@pytest.mark.parametrize(
    ("own", "books", "words"),
    [
        (pg19("validation"), 50, 3_007_061),
        (pg19("test"), 100, 6_966_499),
        (pg19("test", "elsewhere/pg19"), 100, 6_966_499),
        (pg19("validation"), 49, None),
        (pg19("validation"), 100, None),
        (pg19("train"), 50, None),
        (pg19("validation", "deepmind/pg19-short"), 50, None),
        (pg19("validation", "deepmind/notpg19"), 50, None),
        ({"files": "deepmind/pg19"}, 50, None),
    ],
)
def test_a_whole_split_of_pg19_carries_its_published_words(
    texts: list[str], tmp_path: Path, own: dict, books: int, words: int | None
) -> None:
    spec = corpus_spec(split={"valid": own, "test": 0.1})
    stats = build_corpus(texts[100:], spec, tmp_path / "corpus", {"valid": texts[:books]})
    assert contents(tmp_path / "corpus" / "stats.json") == stats
    assert stats["splits"]["valid"].get("published_words") == words
    assert all("published_words" not in stats["splits"][name] for name in ("train", "test"))


def test_shares_of_pg19_are_counted(texts: list[str], tmp_path: Path) -> None:
    spec = corpus_spec(source=pg19("validation"), split={"valid": 0.2, "test": 0.2})
    stats = build_corpus(texts, spec, tmp_path / "corpus")
    assert all("published_words" not in facts for facts in stats["splits"].values())


# --- files -----------------------------------------------------------------------------------------------------------


def test_shards_are_json_lines(corpus: Path) -> None:
    first = next((corpus / "documents").glob("train-*")).read_text(encoding="utf-8").splitlines()[0]
    assert list(json.loads(first)) == ["text"]
