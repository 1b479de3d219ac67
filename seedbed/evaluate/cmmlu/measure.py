"""CMMLU (arXiv 2306.09212) and questions in its format, by two published conventions.

`cmmlu` is the benchmark's own: the answer is the likeliest of the four tokens that the letters would begin with, and
shots that do not fit are dropped, the longest ones first. `lm-eval` is the task `cmmlu` of lm-evaluation-harness 0.4:
letters are continuations after a space, and what does not fit is cut from the left. Either way one forward gives all
four log-probabilities, and what the prompts of a subject have in common is read once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from os.path import commonprefix
from pathlib import Path

import numpy as np
import torch

from seedbed.errors import SeedbedError
from seedbed.evaluate.cmmlu.categories import CHINESE_NAMES
from seedbed.evaluate.cmmlu.choices import baselines, scores
from seedbed.evaluate.cmmlu.contamination import Found
from seedbed.evaluate.cmmlu.questions import LETTERS, Question, load_questions, questions_identity
from seedbed.evaluate.cmmlu.result import Contamination, Result
from seedbed.iterate import batched
from seedbed.objectives.lm.subject import CausalLM, Prefix, right_padded
from seedbed.progress import progress
from seedbed.records import read_record

CHANCE = 1 / len(LETTERS)
HEAD = "以下是关于{}的单项选择题，请直接给出正确答案的选项。\n\n"


@dataclass(frozen=True)
class Convention:
    """How prompts are worded, and what happens to one that is too long."""

    before: str  # the question
    asking: str
    space: str  # between what asks and the letter
    drops_shots: bool

    def ask(self, question: Question) -> str:
        options = "".join(f"\n{letter}. {option}" for letter, option in zip(LETTERS, question.options, strict=True))
        text = question.text if self.before else question.text.strip()
        return f"{self.before}{text}{options}\n{self.asking}"

    def shot(self, question: Question) -> str:
        return f"{self.ask(question)}{self.space}{LETTERS[question.answer]}\n\n"


CONVENTIONS = {
    "cmmlu": Convention("题目：", "答案是：", "", drops_shots=True),
    "lm-eval": Convention("", "答案：", " ", drops_shots=False),
}


@dataclass(frozen=True)
class Prompt:
    """A question as the model is asked it: ids of the prompt, and of what each letter would add."""

    question: Question
    number: int  # in its subject
    ids: list[int]
    answers: list[list[int]]
    kept: tuple[int, ...]  # which shots
    cut: int = 0  # tokens left out in front


def measure(spec: dict, subject: CausalLM, contamination: Sequence[Path] = ()) -> tuple[Result, list[dict]]:
    """`contamination` are files of `seedbed.evaluate.cmmlu.contamination`, one per training corpus."""
    dev, test = load_questions(spec["source"])
    convention = CONVENTIONS[spec["convention"]]
    trained_on = [read_record(path, Found) for path in contamination]
    seen = {(one["subject"], one["number"]) for corpus in trained_on for one in corpus["found"]} if trained_on else None
    settings, rows = {}, []
    for shots in spec["shots"]:
        answered = answer(subject, convention, dev, test, shots)
        for row in answered:
            row["in_training"] = None if seen is None else (row["subject"], row["number"]) in seen
        settings[str(shots)] = scores(answered)
        rows += answered
    result = {
        "data": {"questions": questions_identity(dev, test)},
        "convention": spec["convention"],
        "demonstration": "demonstration" in spec["source"],
        "questions": sum(map(len, test.values())),
        "prompts_begin_with": subject.tokenizer.convert_ids_to_tokens(subject.tokenizer("").input_ids),
        "intervals": "95%; of micro and subjects by Wilson, of macro by bootstrap over questions within subjects",
        "missing_subjects": missing(test) if "demonstration" not in spec["source"] else [],
        "window": window(subject),
        "chance": CHANCE,
        "baselines": baselines(test),
        "contamination": note(trained_on, seen),
        "shots": settings,
    }
    return result, rows


def missing(test: dict) -> list[str]:
    """Subjects of CMMLU that are not there, if any of it is."""
    return sorted(set(CHINESE_NAMES) - set(test)) if set(test) & set(CHINESE_NAMES) else []


def note(trained_on: list[dict], seen: set | None) -> Contamination | None:
    """How many questions occur in the corpora that the model was trained on; None where nobody looked."""
    if seen is None:
        return None
    same = {key: trained_on[0][key] for key in ("rule", "asked", "too_short")}
    return {**same, "contaminated": len(seen), "corpora": [one["corpus"] for one in trained_on]}


def window(subject: CausalLM) -> int:
    """The longest prompt in tokens: what the model was trained on."""
    return min(subject.trained_length, subject.most_positions or subject.trained_length)


# --- prompts ---------------------------------------------------------------------------------------------------------


def prompts_of(
    subject: CausalLM, convention: Convention, name: str, dev: list[Question], test: list[Question], shots: int
) -> list[Prompt]:
    """The prompts of one subject."""
    head = HEAD.format(CHINESE_NAMES.get(name, name))
    examples = [convention.shot(question) for question in dev[:shots]]
    asked = [convention.ask(question) for question in test]
    encoded = subject.tokenizer([head + "".join(examples) + ask for ask in asked]).input_ids
    most, every = window(subject), tuple(range(len(examples)))
    answers = letters(subject, convention, asked[0])  # all end in the same line
    prompts = []
    for number, (question, ask, ids) in enumerate(zip(test, asked, encoded, strict=True)):
        kept = every
        if convention.drops_shots and len(ids) > most:
            ids, kept = without_shots(subject, head, examples, ask, most)
        fits = most + 1 - max(map(len, answers))
        prompts.append(Prompt(question, number, ids[-fits:], answers, kept, cut=max(0, len(ids) - fits)))
    return prompts


def without_shots(
    subject: CausalLM, head: str, examples: list[str], ask: str, most: int
) -> tuple[list[int], tuple[int, ...]]:
    """Ids of a prompt without as many shots as needed, the longest ones first, and those that are kept.

    Where none is left and it is still too long, it goes without its introduction, as the benchmark's own code does.
    """
    kept = list(range(len(examples)))
    while kept:
        kept.remove(max(kept, key=lambda number: len(examples[number])))
        ids = subject.tokenizer(head + "".join(examples[number] for number in kept) + ask).input_ids
        if len(ids) <= most:
            return ids, tuple(kept)
    return subject.tokenizer(ask).input_ids, ()


def letters(subject: CausalLM, convention: Convention, ask: str) -> list[list[int]]:
    """The ids that A, B, C and D would add to a prompt that ends like `ask`.

    They are found in context, because a tokenizer may begin a word otherwise after a colon than at the start of a text,
    or merge it with what is before. Raises SeedbedError where the four do not differ.
    """

    def encoded(texts: list[str]) -> list[list[int]]:
        return subject.tokenizer(texts, add_special_tokens=False).input_ids

    ids, *longer = encoded([ask, *(ask + convention.space + letter for letter in LETTERS)])
    answers = [whole[len(ids) :] for whole in longer]
    if convention.drops_shots:
        # One token stands for a letter, its own one where the prompt's end swallows it.
        apart = all(answers) and all(whole[: len(ids)] == ids for whole in longer)
        answers = [[answer[0]] for answer in answers] if apart else [[alone[-1]] for alone in encoded(list(LETTERS))]
    if len({tuple(answer) for answer in answers}) < len(LETTERS) or not all(answers):
        raise SeedbedError(
            f"{subject.folder}: its tokenizer gives the answers {', '.join(LETTERS)} the tokens "
            f"{', '.join(map(str, answers))}, which do not differ"
        )
    return answers


# --- answering -------------------------------------------------------------------------------------------------------


@dataclass
class Continuation:
    """One input whose last places give the log-probabilities of several letters, that differ in their last token."""

    prompt: Prompt
    options: list[int]
    fed: list[int]  # after what is read for the whole subject
    places: list[int] = field(init=False)

    def __post_init__(self) -> None:
        length = len(self.prompt.answers[self.options[0]])
        self.places = list(range(len(self.fed) - length, len(self.fed)))


def answer(
    subject: CausalLM, convention: Convention, dev: dict, test: dict, shots: int, batch_size: int | None = None
) -> list[dict]:
    """One row per test question: asked, predicted and right, the four log-probabilities, the shots that fit.

    `batch_size` questions are read at once; None goes by the subject's `batch_tokens`.
    """
    rows = []
    for name in progress(list(test), what=f"{shots} shots", unit="subjects"):
        prompts = prompts_of(subject, convention, name, dev[name], test[name], shots)
        scored = option_scores(subject, prompts, batch_size)
        rows += [row(prompt, shots, log_p) for prompt, log_p in zip(prompts, scored, strict=True)]
    return rows


def option_scores(subject: CausalLM, prompts: list[Prompt], batch_size: int | None = None) -> np.ndarray:
    """Log-probabilities of the four letters after each prompt [prompts, 4]."""
    scored = np.empty((len(prompts), len(LETTERS)))
    places = {id(prompt): place for place, prompt in enumerate(prompts)}
    order = sorted(prompts, key=lambda prompt: (prompt.kept, len(prompt.ids)))
    for _, same_shots in groupby(order, key=lambda prompt: prompt.kept):
        group = list(same_shots)
        shared = commonprefix([prompt.ids[:-1] for prompt in group]) if len(group) > 1 else []
        prefix = subject.read(shared)
        fed = [one for prompt in group for one in continuations(prompt, prefix.length)]
        at_once = batch_size or subject.at_once(max(len(prompt.ids) for prompt in group))
        for batch in batched(fed, at_once):  # of like lengths
            for one, log_p in zip(batch, log_probabilities(subject, batch, prefix), strict=True):
                scored[places[id(one.prompt)], one.options] = log_p
    return scored


def continuations(prompt: Prompt, read: int) -> Iterator[Continuation]:
    """What to feed for the letters after the first `read` tokens: usually one input for all four."""
    inputs = {}
    for option, ids in enumerate(prompt.answers):
        inputs.setdefault(tuple(ids[:-1]), []).append(option)
    for begun, options in inputs.items():
        yield Continuation(prompt, options, [*prompt.ids[read:], *begun])


def log_probabilities(subject: CausalLM, batch: list[Continuation], prefix: Prefix) -> Iterator[list[float]]:
    """For each input of a batch the log-probabilities of its letters."""
    most = max(len(one.places) for one in batch)
    at = torch.tensor([one.places + one.places[-1:] * (most - len(one.places)) for one in batch])
    logits = subject.logits(right_padded([one.fed for one in batch]), at, prefix)
    for one, log_p in zip(batch, logits.log_softmax(-1).cpu(), strict=True):
        yield [
            sum(float(log_p[place, token]) for place, token in enumerate(one.prompt.answers[option]))
            for option in one.options
        ]


def row(prompt: Prompt, shots: int, log_p: np.ndarray) -> dict:
    return {
        "shots": shots,
        "subject": prompt.question.subject,
        "number": prompt.number,
        "question": prompt.question.text,
        "gold": LETTERS[prompt.question.answer],
        "predicted": LETTERS[int(np.argmax(log_p))],
        **{f"log_p_{letter}": float(value) for letter, value in zip(LETTERS, log_p, strict=True)},
        "shots_used": len(prompt.kept),
        "prompt_tokens": len(prompt.ids),
        "tokens_cut": prompt.cut,
    }
