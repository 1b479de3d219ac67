"""Multiple-choice questions in CMMLU's format (arXiv 2306.09212).

The prompt is that of the benchmark's own code; the answer is the most likely of the tokens that A, B, C and D would be
right there. Shots that do not fit the model's window are dropped, the first ones first, and counted.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from seedbed.errors import SeedbedError
from seedbed.evaluate.intervals import wilson
from seedbed.evaluate.subject import Subject, right_padded
from seedbed.evaluate.subjects import CHINESE_NAMES
from seedbed.iterate import batched

LETTERS = "ABCD"
COLUMNS = ("Question", *LETTERS, "Answer")
CHANCE = 1 / len(LETTERS)
DEMONSTRATION = Path(__file__).parent / "demonstration"


@dataclass(frozen=True)
class Question:
    subject: str
    text: str
    options: tuple[str, str, str, str]
    answer: int

    def prompt(self) -> str:
        options = "".join(f"\n{letter}. {option}" for letter, option in zip(LETTERS, self.options, strict=True))
        return f"题目：{self.text}{options}\n答案是："


def measure(spec: dict, subject: Subject) -> tuple[dict, list[dict]]:
    dev, test = load_questions(spec["source"])
    settings, rows = {}, []
    for shots in spec["shots"]:
        answered = answer(subject, dev, test, shots, spec["batch_size"])
        settings[str(shots)] = scores(answered)
        rows += answered
    demonstration = "demonstration" in spec["source"]
    result = {"demonstration": demonstration, "questions": sum(map(len, test.values())), "chance": CHANCE}
    return {**result, "baselines": baselines(test), "shots": settings}, rows


# --- questions -------------------------------------------------------------------------------------------------------


def load_questions(source: dict) -> tuple[dict[str, list[Question]], dict[str, list[Question]]]:
    """Demonstrations (dev) and test questions by subject."""
    if "hub" in source:
        return hub_questions(source)
    folder = DEMONSTRATION if "demonstration" in source else Path(source["files"])
    subjects = sorted(path.stem for path in (folder / "test").glob("*.csv"))
    if not subjects:
        raise SeedbedError(f"{folder}: no test/<subject>.csv there")
    read = {
        split: {name: read_csv(folder / split / f"{name}.csv", name) for name in subjects} for split in ("dev", "test")
    }
    return read["dev"], read["test"]


def read_csv(path: Path, subject: str) -> list[Question]:
    if not path.exists():
        raise SeedbedError(f"{path}: no such file")
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return questions(csv.DictReader(stream), subject, str(path))
    except UnicodeDecodeError as error:
        raise SeedbedError(f"{path}: not UTF-8 ({error.reason})") from None


def hub_questions(source: dict) -> tuple[dict, dict]:
    import datasets

    try:
        names = datasets.get_dataset_config_names(source["hub"], revision=source["revision"])
        loaded = {
            name: datasets.load_dataset(source["hub"], name, revision=source["revision"]) for name in sorted(names)
        }
    except Exception as error:  # the hub client raises its own, urllib's and fsspec's
        raise SeedbedError(
            f"hub dataset {source['hub']}: {(str(error) or type(error).__name__).splitlines()[0]}"
        ) from None
    read = {
        split: {name: questions(data[split], name, f"{source['hub']}:{name}:{split}") for name, data in loaded.items()}
        for split in ("dev", "test")
    }
    return read["dev"], read["test"]


def questions(records: Iterable[dict], subject: str, where: str) -> list[Question]:
    found = []
    for number, record in enumerate(records, start=1):
        missing = [column for column in COLUMNS if record.get(column) is None]
        if missing:
            raise SeedbedError(f"{where}: record {number}: no column {missing[0]!r}; expected {', '.join(COLUMNS)}")
        letter = record["Answer"].strip()
        if letter not in LETTERS or len(letter) != 1:
            raise SeedbedError(f"{where}: record {number}: Answer is {letter!r}, expected one of {', '.join(LETTERS)}")
        options = tuple(record[option] for option in LETTERS)
        found.append(Question(subject, record["Question"], options, LETTERS.index(letter)))
    if not found:
        raise SeedbedError(f"{where}: no question there")
    return found


# --- answering -------------------------------------------------------------------------------------------------------


def answer(subject: Subject, dev: dict, test: dict, shots: int, batch_size: int) -> list[dict]:
    """One row per test question: asked, predicted and right, the four log-probabilities, the shots that fit."""
    asked = [(question, *prompt_ids(subject, dev[name], question, shots)) for name in test for question in test[name]]
    rows = [None] * len(asked)
    order = sorted(range(len(asked)), key=lambda number: -len(asked[number][1]))  # batches of like lengths
    for batch in batched(order, batch_size):
        scored = option_scores(subject, [asked[number][1:3] for number in batch])
        for number, log_probabilities in zip(batch, scored, strict=True):
            question, ids, _, used = asked[number]
            rows[number] = row(question, shots, used, len(ids), log_probabilities)
    return rows


def prompt_ids(
    subject: Subject, dev: list[Question], question: Question, shots: int
) -> tuple[list[int], list[int], int]:
    """Ids of the prompt, ids of the four answers after it, and the number of shots that fit."""
    subject_name = CHINESE_NAMES.get(question.subject, question.subject)
    head = f"以下是关于{subject_name}的单项选择题，请直接给出正确答案的选项。\n\n"
    examples = [f"{example.prompt()}{LETTERS[example.answer]}\n\n" for example in dev[:shots]]
    window = subject.most_positions or subject.trained_length
    for dropped in range(len(examples) + 1):
        prompt = head + "".join(examples[dropped:]) + question.prompt()
        ids = subject.tokenizer(prompt, add_special_tokens=False).input_ids
        if len(ids) <= window:
            break
    return ids[-window:], option_ids(subject, prompt, ids), len(examples) - dropped


def option_ids(subject: Subject, prompt: str, ids: list[int]) -> list[int]:
    """The token that each letter would begin with right after the prompt; the four must differ."""
    found = []
    for letter in LETTERS:
        longer = subject.tokenizer(prompt + letter, add_special_tokens=False).input_ids
        alone = subject.tokenizer(letter, add_special_tokens=False).input_ids
        # A tokenizer may merge the letter with the end of the prompt; then its own token stands for it.
        found.append(longer[len(ids)] if longer[: len(ids)] == ids and len(longer) > len(ids) else alone[0])
    if len(set(found)) < len(LETTERS):
        raise SeedbedError(
            f"the tokenizer gives the answers {', '.join(LETTERS)} the tokens {found}, which do not differ"
        )
    return found


def option_scores(subject: Subject, batch: list[tuple[list[int], list[int]]]) -> list[list[float]]:
    """Log-probabilities of the four answers after each prompt."""
    logits = subject.logits(right_padded([ids for ids, _ in batch]))
    rows = torch.arange(len(batch))
    last = logits[rows, [len(ids) - 1 for ids, _ in batch]].log_softmax(-1)
    return last.gather(1, torch.tensor([options for _, options in batch], device=last.device)).tolist()


def row(question: Question, shots: int, used: int, tokens: int, log_probabilities: list[float]) -> dict:
    return {
        "shots": shots,
        "subject": question.subject,
        "question": question.text,
        "gold": LETTERS[question.answer],
        "predicted": LETTERS[int(np.argmax(log_probabilities))],
        **{f"log_p_{letter}": value for letter, value in zip(LETTERS, log_probabilities, strict=True)},
        "shots_used": used,
        "prompt_tokens": tokens,
    }


# --- scores ----------------------------------------------------------------------------------------------------------


def scores(rows: list[dict]) -> dict:
    """Accuracy over all questions (micro, with its 95% Wilson interval), over subjects (macro), and by subject."""
    by_subject = {}
    for one in rows:
        by_subject.setdefault(one["subject"], []).append(one["predicted"] == one["gold"])
    right = sum(map(sum, by_subject.values()))
    subjects = {
        name: {"questions": len(hits), "accuracy": sum(hits) / len(hits), "interval": wilson(sum(hits), len(hits))}
        for name, hits in by_subject.items()
    }
    return {
        "micro": right / len(rows),
        "interval": wilson(right, len(rows)),
        "macro": float(np.mean([facts["accuracy"] for facts in subjects.values()])),
        "margin": float(np.mean([margin(one) for one in rows])),
        "shots_dropped": sum(one["shots"] - one["shots_used"] for one in rows),
        "subjects": subjects,
    }


def margin(one: dict) -> float:
    """How far the right answer is above the mean of the wrong ones, in nats."""
    wrong = [one[f"log_p_{letter}"] for letter in LETTERS if letter != one["gold"]]
    return one[f"log_p_{one['gold']}"] - sum(wrong) / len(wrong)


def baselines(test: dict[str, list[Question]]) -> dict[str, float]:
    """Accuracy of always answering one letter, and of taking the longest option (the first of equal ones)."""
    every = [question for group in test.values() for question in group]
    shares = {letter: sum(question.answer == i for question in every) / len(every) for i, letter in enumerate(LETTERS)}
    longest = sum(question.answer == int(np.argmax([len(o) for o in question.options])) for question in every)
    return {f"always_{letter}": share for letter, share in shares.items()} | {"longest_option": longest / len(every)}
