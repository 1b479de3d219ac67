import csv
import os
from pathlib import Path

import pytest
import torch
from support import ROOT, of_type, saved_model
from tokenizers import normalizers, pre_tokenizers, processors

from seedbed.config.fields import dump
from seedbed.errors import SeedbedError
from seedbed.evaluate.cmmlu.categories import CHINESE_NAMES
from seedbed.evaluate.cmmlu.choices import scores
from seedbed.evaluate.cmmlu.config import CMMLU
from seedbed.evaluate.cmmlu.contamination import Found
from seedbed.evaluate.cmmlu.measure import CONVENTIONS, measure, option_scores, prompts_of
from seedbed.evaluate.cmmlu.questions import DEMONSTRATION, LETTERS, Question, load_questions, questions_identity
from seedbed.evaluate.cmmlu.result import Result
from seedbed.evaluate.intervals import wilson
from seedbed.objectives.lm.subject import CausalLM
from seedbed.records import write_record

REAL = ROOT / "shared" / "data" / "cmmlu"


def spec(**changes: object) -> dict:
    return dump(CMMLU.model_validate({"kind": "cmmlu", "source": {"demonstration": True}, **changes}))


@pytest.fixture
def subject(model_folder: Path, tokens: Path) -> CausalLM:
    return CausalLM(model_folder, tokens, trained_length=4096)


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


PROMPTS = {
    "cmmlu": "题目：一加一\nA. 1\nB. 2\nC. 3\nD. 4\n答案是：B\n\n题目：一加一\nA. 1\nB. 2\nC. 3\nD. 4\n答案是：",
    "lm-eval": "一加一\nA. 1\nB. 2\nC. 3\nD. 4\n答案： B\n\n一加一\nA. 1\nB. 2\nC. 3\nD. 4\n答案：",
}


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_prompt_is_that_of_the_convention(folder: Path, subject: CausalLM, convention: str) -> None:
    dev, test = load_questions({"files": str(folder)})
    (prompt,) = prompts_of(subject, CONVENTIONS[convention], "anatomy", dev["anatomy"], test["anatomy"], 1)
    assert prompt.kept == (0,)
    head = "以下是关于解剖学的单项选择题，请直接给出正确答案的选项。\n\n"
    assert subject.tokenizer.decode(prompt.ids) == head + PROMPTS[convention]
    letters = [subject.tokenizer.decode(ids) for ids in prompt.answers]
    assert letters == [" " * (convention == "lm-eval") + letter for letter in LETTERS]


def test_white_space_around_a_question_stays_in_one_convention_only() -> None:
    question = Question("anatomy", " 人有几块骨头\n", ("106", "206", "306", "406"), 1)
    assert CONVENTIONS["cmmlu"].ask(question).startswith("题目： 人有几块骨头\n\nA. 106\n")
    assert CONVENTIONS["lm-eval"].ask(question).startswith("人有几块骨头\nA. 106\n")


def one_at_a_time(subject: CausalLM, convention: str, dev: list, question: Question, shots: int) -> list[float]:
    """Log-probabilities of the letters by one forward pass for each, over prompt and letter together."""
    before, ask, space = {"cmmlu": ("题目：", "答案是：", ""), "lm-eval": ("", "答案：", " ")}[convention]
    text = f"以下是关于{CHINESE_NAMES[question.subject]}的单项选择题，请直接给出正确答案的选项。\n\n"
    for shot in [*dev[:shots], question]:
        text += before + shot.text + "".join(f"\n{LETTERS[i]}. {option}" for i, option in enumerate(shot.options))
        text += f"\n{ask}" + (f"{space}{LETTERS[shot.answer]}\n\n" if shot is not question else "")
    found = []
    for letter in LETTERS:
        start, ids = len(subject.tokenizer(text).input_ids), subject.tokenizer(text + space + letter).input_ids
        log_p = subject.logits(torch.tensor([ids[:-1]]))[0].log_softmax(-1)
        found.append(sum(float(log_p[place - 1, ids[place]]) for place in range(start, len(ids))))
    return found


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("recurrence", [None, {"work_size": 64, "cache_size": 64}])
def test_batches_and_shared_prefixes_answer_as_one_forward_for_each_letter(
    tokenizer: Path, tokens: Path, tmp_path: Path, convention: str, recurrence: dict | None
) -> None:
    folder = saved_model(tokenizer, tmp_path / "model", recurrence=recurrence)
    subject = CausalLM(folder, tokens, trained_length=4096, batch_tokens=7 * 1000)
    result, rows = measure(spec(convention=convention), subject)
    of_type(result, Result)
    assert len(rows) == 120
    dev, test = load_questions({"demonstration": True})
    for row in rows[::9]:
        question = test[row["subject"]][row["number"]]
        alone = one_at_a_time(subject, convention, dev[question.subject], question, row["shots"])
        assert [row[f"log_p_{letter}"] for letter in LETTERS] == pytest.approx(alone, abs=1e-4)
        assert row["predicted"] == LETTERS[alone.index(max(alone))]
        assert (row["gold"], row["question"]) == (LETTERS[question.answer], question.text)
    for shots in ("0", "5"):
        hits = [row["predicted"] == row["gold"] for row in rows if row["shots"] == int(shots)]
        found = result["shots"][shots]
        assert found["micro"] == found["macro"] == found["accuracy_norm"] == pytest.approx(sum(hits) / 60)
        for key in ("interval", "macro_interval"):
            assert found[key][0] < found["micro"] < found[key][1]
    assert result["demonstration"] is True
    assert result["baselines"]["always_A"] == 0.25
    assert result["missing_subjects"] == []


def test_a_question_that_is_asked_twice_is_answered_twice(subject: CausalLM) -> None:
    prompts = prompts_of(subject, CONVENTIONS["cmmlu"], "anatomy", [], [QUESTION, QUESTION], 0)
    first, second = option_scores(subject, prompts).tolist()
    assert first == second == pytest.approx(one_at_a_time(subject, "cmmlu", [], QUESTION, 0), abs=1e-4)


def test_letters_of_several_tokens_are_scored_whole(subject: CausalLM) -> None:
    # Spaces and letters are tokens of their own here, so that " A" is two.
    plain = subject.tokenizer.backend_tokenizer
    split = pre_tokenizers.Sequence([pre_tokenizers.Split(" ", "isolated"), pre_tokenizers.ByteLevel(False)])
    plain.pre_tokenizer = split
    prompts = prompts_of(subject, CONVENTIONS["lm-eval"], "anatomy", [], [QUESTION], 0)
    assert [len(ids) for ids in prompts[0].answers] == [2] * 4
    found = option_scores(subject, prompts, 4)[0]
    assert found.tolist() == pytest.approx(one_at_a_time(subject, "lm-eval", [], QUESTION, 0), abs=1e-4)


QUESTION = Question("anatomy", "人有几块骨头", ("106", "206", "306", "406"), 1)


def test_shots_that_do_not_fit_are_dropped_and_counted(tokenizer: Path, tokens: Path, tmp_path: Path) -> None:
    small = CausalLM(saved_model(tokenizer, tmp_path / "gpt2", "gpt2", n_positions=500), tokens, trained_length=500)
    result, rows = measure(spec(shots=[5]), small)
    assert all(row["prompt_tokens"] <= 500 and row["tokens_cut"] == 0 for row in rows)
    dropped = [5 - row["shots_used"] for row in rows]
    assert result["shots"]["5"]["shots_dropped"] == sum(dropped) > 0
    assert result["shots"]["5"]["prompts_without_all_shots"] == sum(count > 0 for count in dropped)
    assert result["shots"]["5"]["prompts_cut"] == 0
    dev, test = load_questions({"demonstration": True})
    (name, *_), lengths = test, [len(CONVENTIONS["cmmlu"].shot(shot)) for shot in dev[next(iter(test))]]
    for prompt in prompts_of(small, CONVENTIONS["cmmlu"], name, dev[name], test[name], 5):
        left_out = [length for number, length in enumerate(lengths) if number not in prompt.kept]
        assert not left_out or min(left_out) >= max((lengths[number] for number in prompt.kept), default=0)


# " A" is two tokens here, of which the first has to fit as well.
@pytest.mark.parametrize(("convention", "kept", "fits"), [("cmmlu", 0, 30), ("lm-eval", 5, 29)])
def test_a_prompt_that_never_fits_is_cut_from_the_left_and_counted(
    tokenizer: Path, tokens: Path, tmp_path: Path, convention: str, kept: int, fits: int
) -> None:
    small = CausalLM(saved_model(tokenizer, tmp_path / "gpt2", "gpt2", n_positions=30), tokens, trained_length=30)
    result, rows = measure(spec(shots=[5], convention=convention), small)
    assert {row["prompt_tokens"] for row in rows} == {fits}
    assert result["shots"]["5"]["prompts_cut"] == sum(row["tokens_cut"] > 0 for row in rows) == 60
    assert {row["shots_used"] for row in rows} == {kept}
    dev, test = load_questions({"demonstration": True})
    name = rows[0]["subject"]
    (prompt, *_) = prompts_of(small, CONVENTIONS[convention], name, dev[name], test[name], 5)
    whole = small.tokenizer(CONVENTIONS[convention].ask(test[name][0])).input_ids
    assert prompt.ids == whole[-fits:]


def test_the_introduction_goes_where_only_the_question_fits(subject: CausalLM) -> None:
    convention = CONVENTIONS["cmmlu"]
    ids = subject.tokenizer(convention.ask(QUESTION)).input_ids
    for subject.trained_length in (len(ids), len(ids) + 5):
        (prompt,) = prompts_of(subject, convention, "anatomy", [QUESTION], [QUESTION], 1)
        assert (prompt.ids, prompt.kept, prompt.cut) == (ids, (), 0)


def test_learned_positions_bound_the_prompt_however_long_training_was(
    tokenizer: Path, tokens: Path, tmp_path: Path
) -> None:
    small = CausalLM(saved_model(tokenizer, tmp_path / "gpt2", "gpt2", n_positions=30), tokens, trained_length=500)
    (prompt,) = prompts_of(small, CONVENTIONS["cmmlu"], "anatomy", [], [QUESTION], 0)
    assert len(prompt.ids) == 30


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_prompt_begins_as_the_tokenizer_begins_a_text(subject: CausalLM, convention: str) -> None:
    assert measure(spec(shots=[0]), subject)[0]["prompts_begin_with"] == []
    subject.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", 1)]
    )
    result, _ = measure(spec(shots=[0], convention=convention), subject)
    of_type(result, Result)
    assert result["prompts_begin_with"] == ["<|bos|>"]
    (prompt,) = prompts_of(subject, CONVENTIONS[convention], "anatomy", [QUESTION], [QUESTION], 1)
    assert prompt.ids.count(1) == 1 and prompt.ids[0] == 1
    assert all(1 not in ids for ids in prompt.answers)


def test_a_letter_of_several_tokens_is_its_first_in_the_benchmarks_convention(subject: CausalLM) -> None:
    longer = [normalizers.Replace(letter, f"{letter}甲") for letter in LETTERS]
    subject.tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(longer)
    (prompt,) = prompts_of(subject, CONVENTIONS["cmmlu"], "anatomy", [], [QUESTION], 0)
    assert [subject.tokenizer.decode(ids) for ids in prompt.answers] == list(LETTERS)


def test_answers_that_a_tokenizer_cannot_tell_apart_are_refused(subject: CausalLM) -> None:
    subject.tokenizer.backend_tokenizer.normalizer = normalizers.Replace("B", "A")
    with pytest.raises(SeedbedError, match="do not differ"):
        measure(spec(shots=[0]), subject)


def test_a_letter_that_the_prompt_swallows_is_its_own_token(subject: CausalLM) -> None:
    # As if a tokenizer had a token for the colon with an A behind it.
    subject.tokenizer.backend_tokenizer.normalizer = normalizers.Replace("：A", "。")
    convention = CONVENTIONS["cmmlu"]
    (prompt,) = prompts_of(subject, convention, "anatomy", [], [QUESTION], 0)
    assert [subject.tokenizer.decode(ids) for ids in prompt.answers] == list(LETTERS)


def test_questions_of_the_training_corpus_are_marked_and_left_out(subject: CausalLM, tmp_path: Path) -> None:
    name = next(iter(load_questions({"demonstration": True})[1]))
    found = [{"subject": name, "number": number} for number in (0, 3)]
    note = {"rule": "20 characters", "asked": 60, "too_short": 1}
    for corpus, own in (("a", found[:1]), ("b", found)):
        rest = {"contaminated": len(own), "questions": {"sha256": "q"}, "by_subject": {}, "found": own}
        where = {"corpus": {"path": corpus, "sha256": corpus}}
        write_record(tmp_path / f"{corpus}.json", Found, note | where | rest)
    result, rows = measure(spec(shots=[0]), subject, contamination=[tmp_path / "a.json", tmp_path / "b.json"])
    of_type(result, Result)
    assert result["contamination"] == {
        **note,
        "contaminated": 2,
        "corpora": [{"path": "a", "sha256": "a"}, {"path": "b", "sha256": "b"}],
    }
    assert [(row["subject"], row["number"]) for row in rows if row["in_training"]] == [(name, 0), (name, 3)]
    left = result["shots"]["0"]["not_in_training"]
    assert left["questions"] == 58
    hits = [row["predicted"] == row["gold"] for row in rows if not row["in_training"]]
    assert left["micro"] == sum(hits) / 58
    assert measure(spec(shots=[0]), subject)[0]["contamination"] is None


def test_scores_are_by_subject_and_category() -> None:
    answers = [("anatomy", "A", "A"), ("anatomy", "B", "A"), ("chinese_history", "C", "C"), ("own", "D", "A")]
    rows = [
        {"subject": name, "gold": gold, "predicted": predicted, "shots": 2, "shots_used": 1, "tokens_cut": 0}
        | {f"log_p_{letter}": -1.0 - 3 * (letter != predicted) for letter in LETTERS}
        | {"in_training": None}
        for name, gold, predicted in answers
    ]
    found = scores(rows)
    assert (found["micro"], found["macro"]) == (0.5, 0.5)
    assert found["interval"] == wilson(2, 4)
    assert {name: facts["accuracy"] for name, facts in found["subjects"].items()} == {
        "anatomy": 0.5,
        "chinese_history": 1.0,
        "own": 0.0,
    }
    assert {name: facts["micro"] for name, facts in found["categories"].items()} == {
        "STEM": 0.5,
        "Humanities": 1.0,
        "China specific": 1.0,
    }
    assert found["answered"] == {"A": 0.75, "B": 0, "C": 0.25, "D": 0}
    assert found["margin"] == pytest.approx((3 - 1 + 3 - 1) / 4)
    assert found["shots_dropped"] == found["prompts_without_all_shots"] == 4
    assert found["not_in_training"] is None


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (",B\n", ",E\n", "test/anatomy.csv: record 1: Answer is 'E', expected one of A, B, C, D"),
        ("Answer", "Key", "test/anatomy.csv: record 1: no column 'Answer'"),
        ("一加一", "一" * 131_073, r"test/anatomy.csv: not valid CSV \(field larger than"),
    ],
)
def test_bad_questions_are_told(folder: Path, old: str, new: str, told: str) -> None:
    path = folder / "test" / "anatomy.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("\r\n", "\n").replace(old, new), encoding="utf-8")
    with pytest.raises(SeedbedError, match=told):
        load_questions({"files": str(folder)})


def test_a_pipe_in_place_of_questions_is_told(folder: Path) -> None:
    (folder / "test" / "anatomy.csv").unlink()
    os.mkfifo(folder / "test" / "anatomy.csv")
    with pytest.raises(SeedbedError, match=r"test/anatomy.csv: found a pipe, expected a regular file"):
        load_questions({"files": str(folder)})


@pytest.mark.parametrize(
    ("changes", "lacks", "told"),
    [
        ({}, "dev", "hub dataset org/x: anatomy: has no split 'dev'"),
        ({"Answer": 2}, "", "org/x:anatomy:dev: record 1: Answer: found 2; expected text"),
        ({"C": 1.5}, "", "org/x:anatomy:dev: record 1: C: found 1.5; expected text"),
    ],
)
def test_a_hub_dataset_of_another_shape_is_told(
    monkeypatch: pytest.MonkeyPatch, changes: dict, lacks: str, told: str
) -> None:
    records = [dict.fromkeys(("Question", *LETTERS), "1") | {"Answer": "A"} | changes]
    loaded = {split: records for split in ("dev", "test") if split != lacks}
    monkeypatch.setattr("datasets.get_dataset_config_names", lambda *_, **__: ["anatomy"])
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: loaded)
    with pytest.raises(SeedbedError, match=told):
        load_questions({"hub": "org/x", "revision": None})


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


def test_missing_subjects_are_named_and_the_questions_have_an_identity(folder: Path, subject: CausalLM) -> None:
    result, _ = measure(spec(source={"files": str(folder)}, shots=[0]), subject)
    assert result["missing_subjects"] == sorted(set(CHINESE_NAMES) - {"anatomy"})
    before = result["data"]["questions"]
    path = folder / "dev" / "anatomy.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("一加一", "二加二"), encoding="utf-8")
    assert questions_identity(*load_questions({"files": str(folder)})) != before
