import json
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import corpus_spec

from seedbed import corpus as corpus_module
from seedbed.corpus import build_corpus, normalise, quantiles, read_documents, shuffle, split_of
from seedbed.errors import SeedbedError
from seedbed.files import read_json


def everything(folder: Path) -> dict[str, list[str]]:
    """Texts of each split of a built corpus, in the order of the shards."""
    found: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for path in sorted((folder / "documents").iterdir()):
        found[path.name.split("-")[0]] += read_documents(path)
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


def test_the_order_is_a_function_of_seed_and_texts(texts: list[str], tmp_path: Path) -> None:
    def shuffled(given: list[str], seed: int) -> list[str]:
        return list(shuffle(given, tmp_path / "s", seed, True, Counter()))

    assert shuffled(texts, 1) == shuffled(texts[::-1], 1)
    assert shuffled(texts, 1) != shuffled(texts, 2)
    assert shuffled(texts, 1) not in (texts, sorted(texts))


def test_large_buckets_are_scattered_again(texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = list(shuffle(texts, tmp_path / "a", 0, True, Counter()))
    monkeypatch.setattr(corpus_module, "BUCKET_BYTES", 100)
    assert list(shuffle(texts, tmp_path / "b", 0, True, Counter())) == expected
    assert list((tmp_path / "b").iterdir()) == []


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


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_module, "BUCKET_BYTES", 1 << 14)

    def peak(count: int) -> int:
        tracemalloc.start()
        build_corpus((f"{number} " * 100 for number in range(count)), corpus_spec(), tmp_path / str(count))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(50)  # imports
    assert peak(20_000) < 1.3 * peak(1000)


def test_shards_are_json_lines(corpus: Path) -> None:
    first = next((corpus / "documents").glob("train-*")).read_text(encoding="utf-8").splitlines()[0]
    assert list(json.loads(first)) == ["text"]
