"""Continuations of prompts by every setting of `decoding`, and how much each repeats itself.

A prompt follows the token that begins a text. Figures are of the tokens of the continuation alone, end of sequence left
out: `repetition` is seq-rep-4 (Welleck et al. 2019, arXiv 1908.04319), the share of 4-grams that occurred before, and
`distinct_n` the unique n-grams for each that there is (Li et al. 2016, arXiv 1510.03055).
"""

from seedbed.evaluate.samples.result import Result, Sample, Setting
from seedbed.files import sha256_of
from seedbed.objectives.lm.subject import CausalLM
from seedbed.progress import progress

FIGURES = ("repetition", "distinct_1", "distinct_2", "distinct_3")


def measure(spec: dict, subject: CausalLM) -> tuple[Result, list[dict]]:
    settings = [continued(spec, subject, decoding) for decoding in spec["decoding"]]
    rows = [{"label": setting["label"], **sample} for setting in settings for sample in setting["samples"]]
    return {"data": {"prompts": sha256_of(spec["prompts"])}, "begin": subject.begin, "settings": settings}, rows


def continued(spec: dict, subject: CausalLM, decoding: str | dict) -> Setting:
    """All prompts by one setting, and the means of their figures."""
    prompts = progress(spec["prompts"], what=label(decoding), unit="prompts")
    samples = [sample(subject, prompt, spec["max_new_tokens"], decoding) for prompt in prompts]
    means = {figure: mean([one[figure] for one in samples]) for figure in FIGURES}
    return {"label": label(decoding), "decoding": decoding, "samples": samples, **means}


def label(decoding: str | dict) -> str:
    if decoding == "greedy":
        return decoding
    return f"temperature {decoding['temperature']}, top-p {decoding['top_p']}, seed {decoding['seed']}"


def sample(subject: CausalLM, prompt: str, most: int, decoding: str | dict) -> Sample:
    """The continuation of a prompt with its figures, cut where learned positions end.

    `fits` is false where they end before the first token; a figure is None where there are no n-grams.
    """
    tokenizer = subject.tokenizer
    asked = tokenizer(prompt, add_special_tokens=False).input_ids
    ids = [subject.begin["id"], *asked]
    room = subject.most_positions - len(ids) if subject.most_positions else most
    made = subject.continuation(ids, min(most, room), decoding) if room > 0 else []
    ended = made[-1:] == [tokenizer.eos_token_id]
    made = made[:-1] if ended else made
    repeated = distinct(made, 4)
    return {
        "prompt": prompt,
        "continuation": text(subject, asked + made).removeprefix(text(subject, asked)),
        "fits": room > 0,
        "tokens": len(made),
        "ended": ended,
        "repetition": None if repeated is None else 1 - repeated,
        **{f"distinct_{n}": distinct(made, n) for n in (1, 2, 3)},
    }


def text(subject: CausalLM, ids: list[int]) -> str:
    """Decoded from the prompt on, because some tokenizers leave out the space that a text begins with."""
    return subject.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def distinct(ids: list[int], n: int) -> float | None:
    """Unique n-grams for each that there is; None without any."""
    grams = [tuple(ids[start : start + n]) for start in range(len(ids) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


def mean(values: list[float | None]) -> float | None:
    """Of the values that there are; None without any."""
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else None
