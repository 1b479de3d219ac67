import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from support import ROOT, contents, corpus_of, spec_file
from tokenizers import AddedToken, Tokenizer
from transformers import AutoTokenizer

from seedbed.checksums import described, sha256
from seedbed.data import contexts as contexts_module
from seedbed.data.contexts import Contexts, build_contexts, ordinary_ids, patterned, successors
from seedbed.data.corpus import read_documents, shards
from seedbed.data.formats import Index
from seedbed.data.tokens import TokenSplit
from seedbed.errors import SeedbedError
from seedbed.files import read_json, write_json
from seedbed.records import write_record

ORDER = ("test", "valid", "train")
LONG = {"min_chars": 250, "max_chars": 200, "held_out": 20}
CONTROL = {"control": "random", "documents": 50, "tokens": 40, "held_out": 8, "seed": 0}
EOS = 2


def long_texts(corpus: Path, split: str, min_chars: int = 250) -> list[str]:
    texts = [text for shard in shards(corpus, split) for text in read_documents(shard)]
    return [text for text in texts if len(text) >= min_chars]


def encoded(texts: list[str], tokenizer: Path, max_chars: int = 200) -> list[list[int]]:
    """Each text cut and encoded by transformers."""
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    return [[*loaded(text[:max_chars]).input_ids, loaded.eos_token_id] for text in texts]


def stored(folder: Path, split: str) -> list[list[int]]:
    return [ids.tolist() for ids in TokenSplit(folder, split).each_document()]


@pytest.fixture(scope="module")
def long(corpus: Path, tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contexts") / "long"
    build_contexts(LONG, corpus, tokenizer, folder)
    return folder


@pytest.fixture(scope="module", params=["random", "patterned"])
def control(request: pytest.FixtureRequest, tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contexts") / request.param
    build_contexts(CONTROL | {"control": request.param}, None, tokenizer, folder)
    return folder


# --- of a corpus -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held_out", ["in test", "all of test", "in valid", "in train", "all but one"])
def test_the_first_long_documents_are_held_out(corpus: Path, tokenizer: Path, tmp_path: Path, held_out: str) -> None:
    test, valid, train = (long_texts(corpus, split) for split in ORDER)
    wanted = {
        "in test": len(test) - 1,
        "all of test": len(test),
        "in valid": len(test) + 2,
        "in train": len(test) + len(valid) + 3,
        "all but one": len(test) + len(valid) + len(train) - 1,
    }[held_out]
    assert len(test) > 1 and len(valid) > 2 and len(train) > 4
    index = build_contexts(LONG | {"held_out": wanted}, corpus, tokenizer, tmp_path / "c")
    every = [*test, *valid, *train]
    assert stored(tmp_path / "c", "held_out") == encoded(every[:wanted], tokenizer)
    assert stored(tmp_path / "c", "train") == encoded([text for text in train if text not in every[:wanted]], tokenizer)
    from_test = min(wanted, len(test))
    from_valid = min(wanted - from_test, len(valid))
    assert index["held_out_from"] == {"test": from_test, "valid": from_valid, "train": wanted - from_test - from_valid}


def test_documents_of_just_min_chars_are_long(corpus: Path, tokenizer: Path, tmp_path: Path) -> None:
    length = sorted(len(text) for text in long_texts(corpus, "train"))[-3]
    train = long_texts(corpus, "train", length)
    assert min(map(len, train)) == length
    others = [text for split in ("test", "valid") for text in long_texts(corpus, split, length)]
    spec = {"min_chars": length, "max_chars": length, "held_out": len(others) + 1}
    build_contexts(spec, corpus, tokenizer, tmp_path / "c")
    assert stored(tmp_path / "c", "train") == encoded(train[1:], tokenizer, length)


def test_every_document_is_cut(corpus: Path, tokenizer: Path, long: Path) -> None:
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    documents = stored(long, "train") + stored(long, "held_out")
    assert {len(loaded.decode(ids[:-1])) for ids in documents} == {200}


def test_small_batches_write_the_same(
    corpus: Path, tokenizer: Path, long: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seedbed.data.tokens.BATCH", 3)
    assert build_contexts(LONG, corpus, tokenizer, tmp_path / "c") == contents(long / "index.json")


def test_processes_do_not_change_the_result(corpus: Path, tokenizer: Path, long: Path, tmp_path: Path) -> None:
    # A shard that both splits share is among them.
    held_out = sum(len(long_texts(corpus, split)) for split in ("test", "valid")) + 3
    spec = LONG | {"held_out": held_out}
    one, two = (build_contexts(spec, corpus, tokenizer, tmp_path / str(count), processes=count) for count in (1, 2))
    assert one == two == contents(tmp_path / "2" / "index.json")


def test_the_index_names_every_shard_with_its_checksum(long: Path, control: Path) -> None:
    for folder in (long, control):
        index = read_json(folder / "index.json")
        assert (index["dtype"], index["vocab_size"], index["eos_id"]) == ("uint16", 300, EOS)
        assert set(index["splits"]) == {"train", "held_out"}
        listed = [shard for split in index["splits"].values() for shard in split["shards"]]
        assert sorted(shard["file"] for shard in listed) == sorted(path.name for path in (folder / "shards").iterdir())
        assert all(shard["sha256"] == sha256(folder / "shards" / shard["file"]) for shard in listed)
        for split in ("train", "held_out"):
            assert TokenSplit(folder, split).documents == len(stored(folder, split))


def test_too_few_long_documents_are_told(corpus: Path, tokenizer: Path, tmp_path: Path) -> None:
    every = sum(read_json(corpus / "stats.json")["splits"][split]["documents"] for split in ORDER)
    found = sum(len(long_texts(corpus, split)) for split in ORDER)
    with pytest.raises(SeedbedError) as caught:
        build_contexts(LONG | {"held_out": found}, corpus, tokenizer, tmp_path / "c")
    assert str(caught.value) == (
        f"{corpus}: {found} of its {every} documents have at least min_chars 250 characters; "
        f"expected more than the {found} of held_out"
    )
    assert list(tmp_path.iterdir()) == []
    assert build_contexts(LONG | {"held_out": found - 1}, corpus, tokenizer, tmp_path / "c")


def test_without_a_long_document_the_longest_is_told(corpus: Path, tokenizer: Path, tmp_path: Path) -> None:
    lengths = [len(text) for split in ORDER for text in long_texts(corpus, split, 0)]
    with pytest.raises(SeedbedError) as caught:
        build_contexts(LONG | {"min_chars": 4096, "max_chars": 4096}, corpus, tokenizer, tmp_path / "c")
    assert str(caught.value) == (
        f"{corpus}: none of its {len(lengths)} documents has at least min_chars 4096 characters, "
        f"the longest has {max(lengths)}; expected more than the 20 of held_out"
    )


def test_a_train_split_without_a_long_document_is_told(tokenizer: Path, tmp_path: Path) -> None:
    texts = {"train": ["short"] * 5, "valid": ["long enough"], "test": ["long enough"] * 3}
    corpus_of(tmp_path / "corpus", {split: [own] for split, own in texts.items()})
    spec = {"min_chars": 10, "max_chars": 10, "held_out": 2}
    with pytest.raises(SeedbedError) as caught:
        build_contexts(spec, tmp_path / "corpus", tokenizer, tmp_path / "c")
    assert str(caught.value) == (
        f"{tmp_path / 'corpus'}: 4 of its 9 documents have at least min_chars 10 characters, "
        "none of them in its train split; expected some there to train on"
    )


def test_a_missing_corpus_is_told(tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(SeedbedError, match="found neither a corpus nor a control"):
        build_contexts(LONG, None, tokenizer, tmp_path / "c")


def test_the_script_takes_the_spec_of_the_workflow(
    tokenizer: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def run(spec: dict) -> subprocess.CompletedProcess:
        options = [
            "--spec",
            spec_file(tmp_path_factory.mktemp("spec"), spec),
            "--tokenizer",
            str(tokenizer),
            "--out",
            str(tmp_path / "out"),
        ]
        command = [sys.executable, "scripts/build_contexts.py", "--contexts", "control", *options]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    done = run(CONTROL | {"documents": 8})
    assert (done.returncode, (tmp_path / "out").exists()) == (1, False)
    assert done.stderr == "error: control random: 8 documents; expected more than the 8 of held_out\n"
    done = run(CONTROL)
    assert done.returncode == 0, done.stderr
    assert TokenSplit(tmp_path / "out", "train").documents == 42


# --- controls --------------------------------------------------------------------------------------------------------


def followers(documents: list[list[int]]) -> dict[int, Counter]:
    """How often each id follows each other one."""
    found = {}
    for ids in documents:
        for one, other in zip(ids[:-2], ids[1:-1], strict=True):
            found.setdefault(one, Counter())[other] += 1
    return found


def test_a_control_has_as_many_documents_of_ordinary_ids_as_asked(tokenizer: Path, control: Path) -> None:
    train, held_out = stored(control, "train"), stored(control, "held_out")
    assert (len(train), len(held_out)) == (42, 8)
    assert {len(ids) for ids in train + held_out} == {41}
    assert all(ids[-1] == EOS and not {0, 1, 2} & set(ids[:-1]) for ids in train + held_out)
    assert len({tuple(ids) for ids in train + held_out}) == 50
    assert "held_out_from" not in read_json(control / "index.json")


@pytest.mark.parametrize("kind", ["random", "patterned"])
def test_a_control_is_a_function_of_its_spec(tokenizer: Path, tmp_path: Path, kind: str) -> None:
    made = [
        build_contexts(CONTROL | {"control": kind, "seed": seed}, None, tokenizer, tmp_path / str(place))
        for place, seed in enumerate((0, 0, 1))
    ]
    checksums = [[shard["sha256"] for split in index["splits"].values() for shard in split["shards"]] for index in made]
    assert checksums[0] == checksums[1]
    assert not set(checksums[0]) & set(checksums[2])


@pytest.mark.parametrize("kind", ["random", "patterned"])
def test_a_control_of_several_blocks_is_whole(
    tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(contexts_module, "BLOCK", 100)
    build_contexts(CONTROL | {"control": kind, "held_out": 7}, None, tokenizer, tmp_path / "c")
    documents = stored(tmp_path / "c", "held_out") + stored(tmp_path / "c", "train")
    assert {len(ids) for ids in documents} == {41} and len({tuple(ids) for ids in documents}) == 50


def test_ids_of_a_random_control_are_uniform_and_independent(tokenizer: Path, tmp_path: Path) -> None:
    build_contexts(CONTROL | {"documents": 500, "tokens": 300}, None, tokenizer, tmp_path / "c")
    documents = stored(tmp_path / "c", "train")
    counts = Counter(token for ids in documents for token in ids[:-1])
    assert set(counts) == set(range(3, 300))
    # About 500 of each; chi-squared has 296 degrees of freedom.
    expected = sum(counts.values()) / 297
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 400
    assert min(len(found) for found in followers(documents).values()) > 150


def test_ids_of_a_patterned_control_have_four_successors(tokenizer: Path, tmp_path: Path) -> None:
    spec = CONTROL | {"control": "patterned", "documents": 500, "tokens": 300}
    build_contexts(spec, None, tokenizer, tmp_path / "c")
    found = followers(stored(tmp_path / "c", "train") + stored(tmp_path / "c", "held_out"))
    assert set(map(len, found.values())) <= {1, 2, 3, 4}
    common = [counts for counts in found.values() if counts.total() >= 400]
    assert len(common) > 50 and all(len(counts) == 4 for counts in common)
    shares = np.sum([sorted(counts.values(), reverse=True) for counts in common], axis=0)
    assert shares / shares.sum() == pytest.approx([0.5, 0.25, 0.125, 0.125], abs=0.02)
    firsts = {ids[0] for ids in stored(tmp_path / "c", "train")}
    assert len(firsts) > 200


@pytest.mark.parametrize("size", [4, 5, 8, 300])
def test_the_successors_of_an_id_are_different_ones(size: int) -> None:
    follow = np.concatenate([successors(size, np.random.default_rng(seed)) for seed in range(20)])
    assert all(len(set(own)) == 4 for own in follow.tolist())
    assert set(follow.flatten().tolist()) == set(range(size))


def test_the_chain_is_that_of_held_out_documents_too(tokenizer: Path, tmp_path: Path) -> None:
    spec = CONTROL | {"control": "patterned", "documents": 500, "tokens": 300}
    build_contexts(spec, None, tokenizer, tmp_path / "c")
    train, held_out = (followers(stored(tmp_path / "c", split)) for split in ("train", "held_out"))
    assert all(set(counts) <= set(train[one]) for one, counts in held_out.items() if train[one].total() >= 400)


def test_a_control_without_documents_to_train_on_is_told(tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(SeedbedError) as caught:
        build_contexts(CONTROL | {"held_out": 50}, None, tokenizer, tmp_path / "c")
    assert str(caught.value) == "control random: 50 documents; expected more than the 50 of held_out"
    assert list(tmp_path.iterdir()) == []


def test_ordinary_ids_leave_special_tokens_out(tokenizer: Path, tmp_path: Path) -> None:
    assert ordinary_ids(tokenizer).tolist() == list(range(3, 300))
    assert ordinary_ids(tokenizer).dtype == np.int64
    other = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    other.add_special_tokens([AddedToken("<|tool|>")])
    other.add_tokens(["plain"])
    (tmp_path / "other").mkdir()
    other.save(str(tmp_path / "other" / "tokenizer.json"))
    write_json(tmp_path / "other" / "tokenizer_config.json", {"eos_token": "<|tool|>"})
    assert ordinary_ids(tmp_path / "other").tolist() == [*range(3, 300), 301]
    # An end that is no special token of its tokenizer is left out all the same.
    write_json(tmp_path / "other" / "tokenizer_config.json", {"eos_token": "plain"})
    assert ordinary_ids(tmp_path / "other").tolist() == list(range(3, 300))


def test_patterned_text_is_the_next_id_of_each() -> None:
    allowed = np.array([3, 4, 7, 9])
    assert patterned(np.array([[3, 4], [7, 9]]), allowed).tolist() == [[4, 7], [9, 3]]
    assert patterned(np.array([0, 5, 12]), allowed).tolist() == [3, 7, 3]


# --- reading ---------------------------------------------------------------------------------------------------------

SIZES = [9, 100, 0, 23, 24, 25, 8, 57, 1]


def places(folder: Path, sizes: list[int]) -> Path:
    """Documents of these sizes in three shards, whose ids tell document and place: (document + 1) * 1000 + place."""
    documents = [np.r_[(number + 1) * 1000 + np.arange(size), 0] for number, size in enumerate(sizes)]
    (folder / "shards").mkdir(parents=True)
    files = []
    for number in range(3):
        own = documents[number * len(documents) // 3 : (number + 1) * len(documents) // 3]
        ids = np.concatenate([[], *own]).astype("<u2")
        path = folder / "shards" / f"{number}.bin"
        path.write_bytes(ids.tobytes())
        files.append({"file": path.name, "tokens": len(ids)} | described(path))
    entry = {"tokens": sum(file["tokens"] for file in files), "documents": len(documents), "shards": files}
    index = {"dtype": "uint16", "vocab_size": 2**16, "eos_id": 0, "splits": {"train": entry}}
    write_record(folder / "index.json", Index, index)
    return folder


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return places(tmp_path_factory.mktemp("contexts") / "placed", SIZES)


def epoch_of(contexts: Contexts, epoch: int) -> list[np.ndarray]:
    return [contexts.window(number + epoch * contexts.per_epoch) for number in range(contexts.per_epoch)]


@pytest.mark.parametrize(("length", "continuation"), [(16, 8), (16, 7), (8, 0), (1, 1), (100, 0), (92, 8)])
def test_windows_are_consecutive_tokens_of_one_document(placed: Path, length: int, continuation: int) -> None:
    contexts = Contexts(placed, "train", length, continuation, seed=0)
    assert contexts.per_epoch == sum(max(0, size - continuation) // length for size in SIZES)
    for ids in [*epoch_of(contexts, 0), *epoch_of(contexts, 1), *map(contexts.at, range(contexts.per_epoch))]:
        assert ids.shape == (length + continuation,) and ids.dtype == np.int64
        assert np.array_equal(ids, ids[0] + np.arange(length + continuation))
        document, last = divmod(int(ids[-1]), 1000)
        assert int(ids[0]) // 1000 == document and last < SIZES[document - 1]


@pytest.mark.parametrize("epoch", range(5))
def test_an_epoch_has_every_piece_of_a_document_once(placed: Path, epoch: int) -> None:
    contexts = Contexts(placed, "train", 16, 8, seed=3)
    found = {}
    for ids in epoch_of(contexts, epoch):
        document, first = divmod(int(ids[0]), 1000)
        found.setdefault(document - 1, []).append(first)
    assert set(found) == {number for number, size in enumerate(SIZES) if size >= 24}
    for number, firsts in found.items():
        count, slack = divmod(SIZES[number] - 8, 16)
        offset = min(firsts)
        assert 0 <= offset <= slack
        assert sorted(firsts) == [offset + 16 * piece for piece in range(count)]


def test_offsets_and_order_differ_between_epochs_and_seeds(placed: Path) -> None:
    offsets, orders = {number: set() for number in (1, 4, 5, 7)}, set()
    for seed in range(2):
        contexts = Contexts(placed, "train", 16, 8, seed)
        for epoch in range(100):
            firsts = [divmod(int(ids[0]), 1000) for ids in epoch_of(contexts, epoch)]
            orders.add(tuple(document for document, _ in firsts))
            for number, own in offsets.items():
                own.add((seed, min(first for document, first in firsts if document - 1 == number)))
    assert len(orders) > 100
    # Every offset occurs, up to the last one: 92 - 5 * 16, 16 - 16, 17 - 16 and 49 - 3 * 16 tokens are left over.
    lasts = {1: 12, 4: 0, 5: 1, 7: 1}
    for number, last in lasts.items():
        assert offsets[number] == {(seed, first) for seed in range(2) for first in range(last + 1)}


def test_offsets_of_documents_and_seeds_are_independent(tmp_path: Path) -> None:
    folder = places(tmp_path / "many", [19] * 50)

    def offsets(seed: int) -> list[int]:
        firsts = {divmod(int(ids[0]), 1000) for ids in epoch_of(Contexts(folder, "train", 10, 0, seed), 0)}
        return [first for _, first in sorted(firsts)]

    one, other = offsets(0), offsets(1)
    assert len(one) == 50 and set(one) == set(range(10))
    # A tenth of 50 are equal by chance.
    assert sum(map(int.__eq__, one, other)) < 15


def test_a_window_is_a_function_of_seed_and_number(placed: Path) -> None:
    def drawn(seed: int, numbers: list[int]) -> list[list[int]]:
        contexts = Contexts(placed, "train", 16, 8, seed)
        return [contexts.window(number).tolist() for number in numbers]

    numbers = list(range(60))
    assert drawn(1, numbers) == drawn(1, numbers[::-1])[::-1]
    assert drawn(1, numbers) != drawn(2, numbers)


def test_evaluation_begins_documents_at_their_first_token_whatever_the_seed(placed: Path) -> None:
    one, other = (Contexts(placed, "train", 16, 8, seed) for seed in (0, 1))
    firsts = [int(one.at(place)[0]) for place in range(one.per_epoch)]
    assert firsts == [int(other.at(place)[0]) for place in range(one.per_epoch)]
    expected = [
        (number + 1) * 1000 + 16 * piece for number, size in enumerate(SIZES) for piece in range((size - 8) // 16)
    ]
    assert sorted(firsts) == expected != firsts


def test_the_first_contexts_of_an_evaluation_come_from_all_over_the_documents(tmp_path: Path) -> None:
    contexts = Contexts(places(tmp_path / "many", [30] * 60), "train", 10, 0, seed=0)
    documents = {int(contexts.at(place)[0]) // 1000 for place in range(30)}
    assert len(documents) > 20 and min(documents) < 10 and max(documents) > 50


def test_contexts_of_a_corpus_are_pieces_of_its_documents(long: Path) -> None:
    contexts = Contexts(long, "held_out", 32, 16, seed=0)
    assert (contexts.vocab_size, contexts.eos_id) == (300, EOS)
    documents = [",".join(map(str, ids[:-1])) for ids in stored(long, "held_out")]
    for place in range(contexts.per_epoch):
        for ids in (contexts.at(place), contexts.window(place)):
            assert EOS not in ids
            assert any(",".join(map(str, ids)) in document for document in documents)


def test_documents_too_short_for_a_context_are_told(placed: Path, tmp_path: Path) -> None:
    assert Contexts(placed, "train", 92, 8, seed=0).per_epoch == 1
    with pytest.raises(SeedbedError) as caught:
        Contexts(placed, "train", 93, 8, seed=0)
    assert str(caught.value) == (
        f"{placed}: train: no document is long enough: the longest of 9 has 100 tokens; "
        "expected at least 101, for a context of 93 and a continuation of 8"
    )
    with pytest.raises(SeedbedError, match=re.escape("the longest of 0 has 0 tokens; expected at least 3")):
        Contexts(places(tmp_path / "empty", []), "train", 2, 1, seed=0)
