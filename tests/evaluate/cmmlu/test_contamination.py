import csv
import random
import re
import subprocess
import sys
import unicodedata
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest
from support import ROOT, contents, corpus_of, spec_file

from seedbed.checksums import sha256
from seedbed.errors import SeedbedError
from seedbed.evaluate.cmmlu import contamination
from seedbed.evaluate.cmmlu.contamination import batches, find, irregular, normalised
from seedbed.evaluate.cmmlu.questions import load_questions, questions_identity

STEM = "下列关于真核细胞DNA复制过程的叙述，哪一项是正确的？"
OPTIONS = ("发生在G1期", "需要RNA引物", "子链沿3'到5'延伸", "不需要酶")
ENGLISH = "The industrious beaver, unlike most other rodents, can fell a tree as thick as 30 cm within one night."


def source(folder: Path, **subjects: list[tuple[str, ...]]) -> dict:
    """The source of an evaluation with test questions, each of a text and four options, by subject."""
    for split in ("dev", "test"):
        (folder / split).mkdir(parents=True)
        for name, questions in subjects.items():
            asked = questions if split == "test" else [("例题", *"甲乙丙丁")]
            with (folder / split / f"{name}.csv").open("w", encoding="utf-8", newline="") as stream:
                csv.writer(stream).writerows([("Question", *"ABCD", "Answer"), *((*one, "A") for one in asked)])
    return {"files": str(folder)}


def corpus(folder: Path, *train: list[str], valid: list[str] = (), test: list[str] = ()) -> Path:
    """A corpus as one is built, with a shard for each list of training documents."""
    return corpus_of(folder, {"train": list(train), "valid": [valid], "test": [test]})


def found(tmp_path: Path, question: tuple[str, ...], *documents: str) -> bool:
    """Whether a question that stands between others is found in documents that lie between others."""
    other = "例题", *"甲乙丙丁"
    documents = ["今天天气很好。", *documents, "It is raining again."]
    result, rows = find(source(tmp_path / "q", biology=[other, question, other]), corpus(tmp_path / "c", documents))
    assert result["contaminated"] == len(rows) == len(result["found"])
    return bool(rows)


def without_marks(text: str) -> str:
    return re.sub(r"\W", "", text)


def full_width(text: str) -> str:
    return "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text)


# --- what counts as the same -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "disguised",
    [
        lambda text: f"考题选编：{text}（2分）",
        lambda text: " ".join(text),
        lambda text: "\n".join(f"{char}\u3000" for char in text),
        without_marks,
        lambda text: "、".join(without_marks(text)),
        full_width,
        str.upper,
        lambda text: text.replace("子", "⼦").replace("行", "⾏"),  # radicals, as some PDFs give
        lambda text: text.replace("3", "③"),
    ],
)
def test_a_planted_question_is_found_however_it_is_set(disguised, tmp_path: Path) -> None:
    stem = "细胞中DNA子链的延伸方向是5到3"
    assert len(without_marks(stem)) < 20
    question = stem, "进行滚环", "进行中", "甲", "乙"
    assert found(tmp_path, question, disguised("，".join(question)))


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_forms_of_unicode_are_the_same(form: str, tmp_path: Path) -> None:
    question = "ビタミンガイドによるとカフェCAFÉの面積は五㎡ですか", "각하", "ｶﾞ", "㎏", "½"
    assert found(tmp_path, question, unicodedata.normalize(form, "\n".join(question)))


def test_normalising_by_the_table_is_nfkc() -> None:
    plain = [chr(code) for code in range(0x10000) if not irregular().search(chr(code)) and not 0xD800 <= code < 0xE000]
    random.Random(0).shuffle(plain)
    odd = ["e\u0301", "x㎡", "ｶﾞ", "\u1112\u1161\u11ab", "하\u11ab", "🄐", "𝐀", "𠮷", "a⑴b", "½", "ﬁ", "…", "ΑΣ", "İ"]
    assert not irregular().search("".join(plain))
    for text in ("".join(plain), *odd, "".join(plain + odd)):
        form = [char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char)[0] in "LMN"]
        codes, borders = normalised([text])
        assert "".join(map(chr, codes[codes > 0])) == "".join(char.lower()[0] for char in form)
        assert len(codes) == borders[0] + 1


# --- how much is enough ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "enough"), [(19, False), (20, True)])
@pytest.mark.parametrize("start", [0, 3, -1])
def test_twenty_characters_are_enough_and_nineteen_are_not(
    length: int, enough: bool, start: int, tmp_path: Path
) -> None:
    text = without_marks("".join([STEM, *OPTIONS]))
    start = len(text) - length if start < 0 else start
    assert found(tmp_path, (STEM, *OPTIONS), f"有{text[start : start + length]}无") == enough


def test_the_end_of_a_text_makes_up_for_nothing(tmp_path: Path) -> None:
    chinese, english = (STEM, *OPTIONS), (ENGLISH, "no", "yes", "maybe", "both")
    assert not found(tmp_path / "characters", chinese, without_marks("".join(chinese))[-19:])
    assert not found(tmp_path / "words", english, " ".join(re.findall(r"\w+", " ".join(english))[-12:]))


@pytest.mark.parametrize(("place", "left"), [(19, False), (20, True)])
def test_a_question_changed_in_the_middle_is_another(place: int, left: bool, tmp_path: Path) -> None:
    text = without_marks("".join([STEM, *OPTIONS]))[: place + 20]
    assert found(tmp_path, (STEM, *OPTIONS), text[:place] + "猫" + text[place + 1 :]) == left


@pytest.mark.parametrize(("count", "enough"), [(12, False), (13, True)])
@pytest.mark.parametrize("start", [0, 2, 6])
def test_thirteen_words_are_enough_and_twelve_are_not(count: int, enough: bool, start: int, tmp_path: Path) -> None:
    words = re.findall(r"\w+", ENGLISH)
    assert len(words) == 19
    document = "Well: " + " -- ".join(words[start : start + count]).upper() + "?\nSo."
    assert found(tmp_path, (ENGLISH, "no", "yes", "maybe", "both"), document) == enough


@pytest.mark.parametrize("changed", ["rodent s", "rodentsandmice", "rodent", "stnedor"])
def test_words_must_be_the_same_words(changed: str, tmp_path: Path) -> None:
    document = " ".join(re.findall(r"\w+", ENGLISH)[:13])
    assert document.count("rodents") == 1
    question = ENGLISH, "no", "yes", "maybe", "both"
    assert found(tmp_path / "same", question, document)
    assert not found(tmp_path / "other", question, document.replace("rodents", changed))


def test_a_chinese_question_with_some_english_is_taken_by_its_characters(tmp_path: Path) -> None:
    question = "句子“I have a dream”出自哪一位美国黑人民权运动领袖在林肯纪念堂前的演说", "甲", "乙", "丙", "丁"
    assert found(tmp_path, question, "这是一位美国黑人民权运动领袖在林肯纪念堂前的演说")


def test_an_english_question_with_some_chinese_is_taken_by_its_words(tmp_path: Path) -> None:
    question = f"阅读下面这个句子，判断其中所说的动物是什么，选出正确的一项：{ENGLISH}", "河狸", "松鼠", "老鼠", "兔子"
    words = re.findall(r"\w+", ENGLISH)
    assert not found(tmp_path / "few", question, " ".join(words[:12]))
    assert found(tmp_path / "enough", question, " ".join(words[:13]))


def test_a_question_in_another_spaced_script_is_taken_by_its_words(tmp_path: Path) -> None:
    question = "Какая из этих рек впадает в Чёрное море южнее Киева", "Днепр", "Волга", "Обь", "Лена"
    words = " ".join(question).split()
    assert not found(tmp_path / "few", question, " ".join(words[:12]))
    assert found(tmp_path / "enough", question, " ".join(words[:13]))


def test_a_text_of_figures_is_taken_by_its_characters(tmp_path: Path) -> None:
    assert found(tmp_path, ("1 1 2 3 5 8 13 21 34", "53", "54", "55", "56"), "11235813213453545556")


# --- borders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [10, 19, 1])
def test_a_piece_does_not_reach_across_documents(cut: int, tmp_path: Path) -> None:
    text = without_marks(STEM)[:20]
    assert found(tmp_path / "one", (STEM, *OPTIONS), text[:cut] + "\n" + text[cut:])
    assert not found(tmp_path / "two", (STEM, *OPTIONS), text[:cut], text[cut:])


@pytest.mark.parametrize("cut", [7, 12, 1])
def test_words_do_not_reach_across_documents(cut: int, tmp_path: Path) -> None:
    words, question = re.findall(r"\w+", ENGLISH)[:13], (ENGLISH, "no", "yes", "maybe", "both")
    assert found(tmp_path / "one", question, " ".join(words[:cut]) + "\n" + " ".join(words[cut:]))
    assert not found(tmp_path / "two", question, " ".join(words[:cut]), " ".join(words[cut:]))


def test_a_piece_does_not_reach_across_questions(tmp_path: Path) -> None:
    chinese = [(STEM, *OPTIONS), (STEM[::-1], *OPTIONS)]
    english = [(ENGLISH, "no", "yes", "maybe", "both"), (ENGLISH[::-1], "no", "yes", "maybe", "both")]
    asked = source(tmp_path / "q", chinese=chinese, english=english)
    across = [
        without_marks("".join(chinese[0]))[-10:] + without_marks(chinese[1][0])[:10],
        " ".join([*re.findall(r"\w+", " ".join(english[0]))[-7:], *re.findall(r"\w+", english[1][0])[:7]]),
    ]
    result, rows = find(asked, corpus(tmp_path / "c", across))
    assert result["contaminated"] == 0
    assert result["too_short"] == 0
    assert rows == []


def test_a_piece_may_reach_from_the_question_into_its_options(tmp_path: Path) -> None:
    question = "中国的首都是", "上海市", "北京市", "天津市", "重庆市南岸"
    assert found(tmp_path, question, "中国的首都是上海市北京市天津市重庆市南岸")


def test_only_the_train_split_counts(tmp_path: Path) -> None:
    asked, text = source(tmp_path / "q", biology=[(STEM, *OPTIONS)]), "".join([STEM, *OPTIONS])
    held_out = corpus(tmp_path / "held-out", ["别的"], valid=[text], test=[text])
    trained = corpus(tmp_path / "trained", ["别的", text])
    assert find(asked, held_out)[0]["contaminated"] == 0
    assert find(asked, trained)[0]["contaminated"] == 1


# --- what is told ----------------------------------------------------------------------------------------------------


def several(tmp_path: Path) -> tuple[dict, Path]:
    """Questions of two subjects and a corpus of three shards that has some of them, some more than once."""
    asked = source(
        tmp_path / "q",
        biology=[
            ("哪个对", "甲", "乙", "丙", "丁"),
            (STEM, *OPTIONS),
            (f"已知{STEM}", *OPTIONS),
            (STEM[::-1], *OPTIONS),
        ],
        zoology=[(ENGLISH, "no", "yes", "maybe", "both"), ("Who is right", "she", "he", "they", "it")],
    )
    first = ["天气", ENGLISH, "晴", f"问：{STEM}"]
    return asked, corpus(tmp_path / "c", ["雨"], first, [STEM, ENGLISH, f"已知{STEM}"])


def test_counts_rows_and_identities_are_told(tmp_path: Path) -> None:
    asked, built = several(tmp_path)
    result, rows = find(asked, built)
    assert result == {
        "corpus": {"path": str(built), "sha256": sha256(built / "stats.json")},
        "questions": {"sha256": questions_identity(*load_questions(asked))},
        "rule": "20 characters or 13 words, normalised",
        "asked": 6,
        "contaminated": 3,
        "too_short": 2,
        "by_subject": {
            "biology": {"asked": 4, "contaminated": 2, "too_short": 1},
            "zoology": {"asked": 2, "contaminated": 1, "too_short": 1},
        },
        "found": [
            {"subject": "biology", "number": 1},
            {"subject": "biology", "number": 2},
            {"subject": "zoology", "number": 0},
        ],
    }
    piece, shard = without_marks(STEM)[:20].lower(), "train-00001-of-00003.jsonl"
    english = "the industrious beaver unlike most other rodents can fell a tree as thick"
    assert rows == [
        {"subject": "biology", "number": 1, "question": STEM, "piece": piece, "file": shard, "line": 4},
        {"subject": "biology", "number": 2, "question": f"已知{STEM}", "piece": piece, "file": shard, "line": 4},
        {"subject": "zoology", "number": 0, "question": ENGLISH, "piece": english, "file": shard, "line": 2},
    ]


def test_processes_do_not_change_the_matches(tmp_path: Path) -> None:
    asked, built = several(tmp_path)
    assert find(asked, built, processes=2) == find(asked, built)


@pytest.mark.parametrize("size", [1, 3])
def test_documents_read_together_do_not_change_the_matches(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, built = several(tmp_path)
    together = find(asked, built)
    monkeypatch.setattr(contamination, "BATCH", size)
    assert find(asked, built) == together


def test_a_few_documents_are_in_memory_at_a_time() -> None:
    documents = repeat("字" * (contamination.BATCH // 10), 60)
    assert len(next(batches(documents))) == 11
    assert len(list(documents)) == 49


def test_a_corpus_without_any_is_clean(corpus: Path) -> None:
    result, rows = find({"demonstration": True}, corpus)
    assert (result["asked"], result["contaminated"], rows) == (60, 0, [])
    assert result["found"] == []


# --- the search ------------------------------------------------------------------------------------------------------


def test_equal_hashes_are_not_taken_for_equal_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contamination, "BASE", 1)  # so that anagrams have equal hashes
    question, text = (STEM, *OPTIONS), without_marks(STEM)[:20]
    assert not found(tmp_path / "anagram", question, text[::-1])
    assert found(tmp_path / "both", question, text[::-1] + text)
    asked = source(tmp_path / "q", biology=[(STEM[::-1], *OPTIONS), question])
    _, rows = find(asked, corpus(tmp_path / "c", [text]))
    assert [row["number"] for row in rows] == [1]


@pytest.mark.parametrize(("size", "join"), [(20, ""), (13, " ")])
def test_the_search_finds_what_a_plain_one_does(size: int, join: str, tmp_path: Path) -> None:
    generator = random.Random(size)
    units = list("天地玄黄宇宙洪荒") if join == "" else "oh ohh h hoh ho a ah".split()
    line = [generator.choice(units) for _ in range(120)]

    def text(pieces: int) -> str:
        """Cuts from the line, most too short to match by themselves."""
        cuts = [generator.randrange(100) for _ in range(pieces)]
        return join.join(join.join(line[cut : cut + generator.randrange(4, size + 4)]) for cut in cuts)

    asked = [(text(generator.randrange(1, 4)), *(generator.choice(units) for _ in range(4))) for _ in range(60)]
    documents = [text(generator.randrange(1, 12)) for _ in range(25)]
    expected = []
    for number, question in enumerate(asked):
        parts = list("".join(question)) if join == "" else " ".join(question).split()
        pieces = [join.join(parts[start : start + size]) for start in range(len(parts) - size + 1)]
        if any(f" {piece} " in f" {text} " if join else piece in text for piece in pieces for text in documents):
            expected.append(number)
    result, rows = find(source(tmp_path / "q", poetry=asked), corpus(tmp_path / "c", documents[:9], documents[9:]))
    assert [row["number"] for row in rows] == expected
    assert 10 < len(expected) < 50
    assert 0 < result["too_short"] < 60 - len(expected)


def test_words_hash_alike_wherever_they_stand() -> None:
    words = contamination.words(*normalised(["ab, ba abc!", "", "-- ba  ab 字"]))
    ab, ba, abc, border, nothing, again, once_more, character, last = words.values.tolist()
    assert (ab, ba, border) == (once_more, again, 0) == (once_more, again, nothing) == (once_more, again, last)
    assert len({ab, ba, abc, character, border}) == 5
    assert words.text_of(np.arange(9)).tolist() == [0, 0, 0, 0, 1, 2, 2, 2, 2]


# --- the script ------------------------------------------------------------------------------------------------------


def run(*options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "scripts/find_contamination.py", "--evaluation", "exam", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_script_writes_what_was_found_and_the_rows(tmp_path: Path) -> None:
    asked, built = several(tmp_path)
    out = tmp_path / "out" / "exam.json"
    done = run("--spec", spec_file(tmp_path, {"source": asked}), "--corpus", str(built), "--out", str(out))
    assert done.returncode == 0, done.stderr
    result, rows = find(asked, built)
    assert contents(out) == result
    with out.with_suffix(".tsv").open(encoding="utf-8", newline="") as stream:
        written = list(csv.DictReader(stream, dialect="excel-tab"))
    assert written == [{key: str(value) for key, value in row.items()} for row in rows]


def test_an_evaluation_without_questions_is_one_line(tmp_path: Path) -> None:
    done = run(
        "--spec",
        spec_file(tmp_path, {"kind": "perplexity"}),
        "--corpus",
        str(tmp_path),
        "--out",
        str(tmp_path / "out.json"),
    )
    assert done.returncode == 1
    assert done.stderr == "error: evaluation exam: has no questions; expected one of kind cmmlu\n"


def test_a_missing_corpus_is_told(tmp_path: Path) -> None:
    with pytest.raises(SeedbedError, match=r"absent/stats.json: no such file"):
        find({"demonstration": True}, tmp_path / "absent")
