import csv
from pathlib import Path

import pytest
import torch
from support import saved_model

from seedbed.config import CMMLU
from seedbed.errors import SeedbedError
from seedbed.evaluate.cmmlu import DEMONSTRATION, LETTERS, load_questions, measure, option_ids, prompt_ids
from seedbed.evaluate.subject import Subject
from seedbed.evaluate.subjects import CHINESE_NAMES
from seedbed.plan import dump

REAL = Path(__file__).parents[3] / "shared" / "data" / "cmmlu"


def spec(**changes: object) -> dict:
    return dump(CMMLU.model_validate({"kind": "cmmlu", "source": {"demonstration": True}, **changes}))


@pytest.fixture
def subject(model_folder: Path, tokens: Path) -> Subject:
    return Subject(model_folder, tokens, trained_length=4096)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("dev", "test"):
        (tmp_path / split).mkdir()
        lines = ["", "Question", "A", "B", "C", "D", "Answer"], [0, "一加一", "1", "2", "3", "4", "B"]
        with (tmp_path / split / "anatomy.csv").open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows(lines)
    return tmp_path


def test_the_demonstration_set_is_whole() -> None:
    dev, test = load_questions({"demonstration": True})
    assert {name: len(group) for name, group in dev.items()} == dict.fromkeys(test, 5)
    assert {name: len(group) for name, group in test.items()} == dict.fromkeys(test, 10)
    assert len(test) == 6
    assert set(test) <= set(CHINESE_NAMES)
    answers = [question.answer for group in test.values() for question in group]
    assert [answers.count(letter) for letter in range(4)] == [15] * 4
    assert all(len(set(question.options)) == 4 for group in (*test.values(), *dev.values()) for question in group)
    assert "demonstration set" in (DEMONSTRATION / "README.md").read_text(encoding="utf-8")


def test_the_prompt_is_that_of_the_benchmark(folder: Path, subject: Subject) -> None:
    dev, test = load_questions({"files": str(folder)})
    ids, _, used = prompt_ids(subject, dev["anatomy"], test["anatomy"][0], 1)
    assert used == 1
    assert subject.tokenizer.decode(ids) == (
        "以下是关于解剖学的单项选择题，请直接给出正确答案的选项。\n\n"
        "题目：一加一\nA. 1\nB. 2\nC. 3\nD. 4\n答案是：B\n\n"
        "题目：一加一\nA. 1\nB. 2\nC. 3\nD. 4\n答案是："
    )


def test_the_answer_is_the_likeliest_option(subject: Subject) -> None:
    result, rows = measure(spec(batch_size=7), subject)
    assert len(rows) == 120
    dev, test = load_questions({"demonstration": True})
    for row in rows[::9]:
        (question,) = [q for group in test.values() for q in group if q.text == row["question"]]
        ids, options, _ = prompt_ids(subject, dev[question.subject], question, row["shots"])
        alone = subject.logits(torch.tensor([ids]))[0, -1].log_softmax(-1)[options].tolist()
        assert [row[f"log_p_{letter}"] for letter in LETTERS] == pytest.approx(alone, abs=1e-4)
        assert row["predicted"] == LETTERS[alone.index(max(alone))]
        assert row["gold"] == LETTERS[question.answer]
    for shots in ("0", "5"):
        hits = [row["predicted"] == row["gold"] for row in rows if row["shots"] == int(shots)]
        scores = result["shots"][shots]
        assert scores["micro"] == scores["macro"] == pytest.approx(sum(hits) / 60)
        assert scores["interval"][0] < scores["micro"] < scores["interval"][1]
    assert result["demonstration"] is True
    assert result["baselines"]["always_A"] == 0.25


def test_shots_that_do_not_fit_are_dropped_and_counted(tokenizer: Path, tokens: Path, tmp_path: Path) -> None:
    small = Subject(saved_model(tokenizer, tmp_path / "gpt2", "gpt2", n_positions=500), tokens, trained_length=500)
    result, rows = measure(spec(shots=[5]), small)
    assert all(row["prompt_tokens"] <= 500 for row in rows)
    assert result["shots"]["5"]["shots_dropped"] == sum(5 - row["shots_used"] for row in rows) > 0


def test_options_are_the_tokens_after_the_prompt(subject: Subject) -> None:
    prompt = "答案是："
    ids = subject.tokenizer(prompt).input_ids
    found = option_ids(subject, prompt, ids)
    assert [subject.tokenizer.decode([token]) for token in found] == list(LETTERS)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (",B\n", ",E\n", "test/anatomy.csv: record 1: Answer is 'E', expected one of A, B, C, D"),
        ("Answer", "Key", "test/anatomy.csv: record 1: no column 'Answer'"),
    ],
)
def test_bad_questions_are_told(folder: Path, old: str, new: str, told: str) -> None:
    path = folder / "test" / "anatomy.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("\r\n", "\n").replace(old, new), encoding="utf-8")
    with pytest.raises(SeedbedError, match=told):
        load_questions({"files": str(folder)})


def test_missing_files_are_told(folder: Path, tmp_path: Path) -> None:
    (folder / "dev" / "anatomy.csv").unlink()
    with pytest.raises(SeedbedError, match=r"dev/anatomy.csv: no such file"):
        load_questions({"files": str(folder)})
    with pytest.raises(SeedbedError, match="no test/<subject>.csv there"):
        load_questions({"files": str(tmp_path / "none")})


@pytest.mark.skipif(not REAL.exists(), reason="CMMLU may not be shipped; it is tested where it lies beside the project")
def test_the_real_questions_are_read() -> None:
    dev, test = load_questions({"files": str(REAL)})
    assert len(test) == 67
    assert set(test) == set(CHINESE_NAMES)
    assert sum(map(len, dev.values())) == 335
    assert sum(map(len, test.values())) == 11582
