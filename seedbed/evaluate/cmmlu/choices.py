"""Scores of multiple-choice answers: accuracies with their intervals, and what needs no reading of the question."""

import numpy as np

from seedbed.evaluate.cmmlu.categories import categories_of
from seedbed.evaluate.cmmlu.questions import LETTERS, Question
from seedbed.evaluate.cmmlu.result import Accuracy, ShotScores, Summary
from seedbed.evaluate.intervals import bootstrap_macro, wilson


def scores(rows: list[dict]) -> ShotScores:
    """What came of one setting, from a row per question.

    `micro` is the accuracy over all questions with its 95% Wilson interval, `macro` the mean over subjects with a 95%
    bootstrap interval (questions drawn anew within each subject). `accuracy_norm` divides log-probabilities by the
    length of the answer in characters, as lm-evaluation-harness does; all answers here are one letter. `answered` is
    how often each letter was the answer: a model that always says the same has not listened to the questions.
    """
    subjects = {name: accuracy(group) for name, group in grouped(rows, lambda row: [row["subject"]]).items()}
    by_category = grouped(rows, lambda row: categories_of(row["subject"]))
    clean = [row for row in rows if row["in_training"] is False]
    return {
        **summary(rows),
        "accuracy_norm": float(np.mean([normalised(row) == row["gold"] for row in rows])),
        "answered": {letter: sum(row["predicted"] == letter for row in rows) / len(rows) for letter in LETTERS},
        "margin": float(np.mean([margin(row) for row in rows])),
        "shots_dropped": sum(row["shots"] - row["shots_used"] for row in rows),
        "prompts_without_all_shots": sum(row["shots_used"] < row["shots"] for row in rows),
        "prompts_cut": sum(row["tokens_cut"] > 0 for row in rows),
        "not_in_training": summary(clean) if 0 < len(clean) < len(rows) else None,
        "categories": {name: summary(by_category[name]) for name in sorted(by_category)},
        "subjects": subjects,
    }


def grouped(rows: list[dict], names: callable) -> dict[str, list[dict]]:
    """Rows by each of the names that they have."""
    groups = {}
    for row in rows:
        for name in names(row):
            groups.setdefault(name, []).append(row)
    return groups


def right(row: dict) -> bool:
    return row["predicted"] == row["gold"]


def accuracy(rows: list[dict]) -> Accuracy:
    hits = sum(map(right, rows))
    return {"questions": len(rows), "accuracy": hits / len(rows), "interval": wilson(hits, len(rows))}


def summary(rows: list[dict]) -> Summary:
    """Accuracy over questions and over subjects of some rows."""
    whole = accuracy(rows)
    hits = [[right(row) for row in group] for group in grouped(rows, lambda row: [row["subject"]]).values()]
    return {
        "questions": len(rows),
        "micro": whole["accuracy"],
        "interval": whole["interval"],
        "macro": float(np.mean([np.mean(group) for group in hits])),
        "macro_interval": bootstrap_macro([sum(group) for group in hits], [len(group) for group in hits]),
    }


def normalised(row: dict) -> str:
    """The letter of the highest log-probability per character of the answer."""
    return max(LETTERS, key=lambda letter: row[f"log_p_{letter}"] / len(letter))


def margin(row: dict) -> float:
    """How far the right answer is above the mean of the wrong ones, in nats."""
    wrong = [row[f"log_p_{letter}"] for letter in LETTERS if letter != row["gold"]]
    return row[f"log_p_{row['gold']}"] - sum(wrong) / len(wrong)


def baselines(test: dict[str, list[Question]]) -> dict[str, float]:
    """Accuracy of always answering one letter, and of taking the longest option (the first of equal ones)."""
    every = [question for group in test.values() for question in group]
    shares = {letter: sum(question.answer == i for question in every) / len(every) for i, letter in enumerate(LETTERS)}
    longest = sum(question.answer == int(np.argmax([len(o) for o in question.options])) for question in every)
    return {f"always_{letter}": share for letter, share in shares.items()} | {"longest_option": longest / len(every)}
