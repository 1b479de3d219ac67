"""What a user may write of an evaluation: what is measured, on which text, and how often."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from seedbed.fields import Count, Name, Number, Positive, Rate, Strict, by_key

SplitName = Literal["train", "valid", "test"]


class Measurement(Strict):
    """What all evaluations have: `precision` is that of the weights; logits are compared in fp32 either way."""

    precision: Literal["fp32", "bf16"] = "fp32"


class OnText(Measurement):
    """An evaluation on the tokens of a corpus, the run's own if none is named."""

    corpus: Name | None = None


class Perplexity(OnText):
    """Sliding window over whole documents: every token is predicted once, with at least window - stride of context."""

    kind: Literal["perplexity"]
    splits: list[SplitName] = ["valid", "test"]
    window: Positive | None = None
    stride: Positive | None = None
    max_tokens: Positive | None = None

    @model_validator(mode="after")
    def stride_within_window(self) -> "Perplexity":
        if self.window and self.stride and self.stride > self.window:
            raise ValueError(f"stride {self.stride} skips tokens: expected at most the window, {self.window}")
        return self


class Lengths(Strict):
    """From `first` to `last`, each `step` more than the one before, or without a step twice as much."""

    first: Positive
    last: Positive
    step: Positive | None = None

    @model_validator(mode="after")
    def in_order(self) -> "Lengths":
        if self.last < self.first:
            raise ValueError(f"last {self.last} is less than first {self.first}")
        return self


def written_out(lengths: list[int] | Lengths) -> list[int]:
    """Lengths as a list; a list stays what it is."""
    if isinstance(lengths, list):
        return lengths
    if lengths.step:
        return list(range(lengths.first, lengths.last + 1, lengths.step))
    doublings = range((lengths.last // lengths.first).bit_length())
    return [lengths.first << doubling for doubling in doublings]


class Forgetting(OnText):
    """Forgetting curve (arXiv 2410.04727): copy accuracy against LM accuracy by length."""

    kind: Literal["forgetting"]
    lengths: Annotated[
        Annotated[
            Annotated[list[Positive], Field(min_length=1), Tag("<list>")] | Annotated[Lengths, Tag("<lengths>")],
            Discriminator(lambda value: "<lengths>" if isinstance(value, dict | Lengths) else "<list>"),
        ],
        AfterValidator(written_out),
    ]
    text: Annotated[list[Literal["order", "random"]], Field(min_length=1)] = ["order", "random"]
    task: Literal["copy", "reverse"] = "copy"
    shots: Count = 0
    split: SplitName = "test"
    # fewer than six pairs cannot reach p < 0.05
    repeats: Annotated[Positive, Field(ge=6)] = 10
    seed: Count = 0


class DemonstrationQuestions(Strict):
    """The questions that ship with Seedbed, in CMMLU's format but not of CMMLU: they show that the chain works."""

    demonstration: Literal[True]


class FileQuestions(Strict):
    """A directory with `dev/<subject>.csv` and `test/<subject>.csv`, as CMMLU is published."""

    files: str


class HubQuestions(Strict):
    hub: str = "haonan-li/cmmlu"
    revision: str


class CMMLU(Measurement):
    """Multiple-choice questions in CMMLU's format (arXiv 2306.09212), by next-token log-probability of A, B, C, D."""

    kind: Literal["cmmlu"]
    source: Annotated[
        Annotated[DemonstrationQuestions, Tag("<demonstration>")]
        | Annotated[FileQuestions, Tag("<files>")]
        | Annotated[HubQuestions, Tag("<hub>")],
        by_key("demonstration", "files", "hub"),
    ]
    convention: Literal["cmmlu", "lm-eval"] = "cmmlu"
    # whether to look for the questions in the training corpus
    contamination: bool = True
    shots: Annotated[list[Annotated[Count, Field(le=5)]], Field(min_length=1)] = [0, 5]


class Sampling(Strict):
    """Tokens drawn from softmax(logits / temperature), cut to its nucleus (arXiv 1904.09751)."""

    temperature: Rate = 1.0
    top_p: Annotated[Number, Field(gt=0, le=1)] = 1.0
    seed: Count = 0


def decoding_form(value: Any) -> str | None:
    if isinstance(value, dict | Sampling):
        return "<sampling>"
    return "<greedy>" if value == "greedy" else None


Decoding = Annotated[
    Annotated[Literal["greedy"], Tag("<greedy>")] | Annotated[Sampling, Tag("<sampling>")],
    Discriminator(
        decoding_form,
        custom_error_type="which_form",
        custom_error_message="expected greedy, or a mapping with any of temperature, top_p, seed",
    ),
]


def each_once(settings: list) -> list:
    """Two that are the same would only say the same twice."""
    if any(setting in settings[:number] for number, setting in enumerate(settings)):
        raise ValueError("expected every setting once")
    return settings


class Samples(Measurement):
    """Continuations of prompts, each by every setting of `decoding`."""

    kind: Literal["samples"]
    prompts: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    max_new_tokens: Positive = 64
    decoding: Annotated[list[Decoding], Field(min_length=1), AfterValidator(each_once)] = ["greedy"]


class History(OnText):
    """What the text before is worth: loss and accuracy by position in a piece, after its history and without."""

    kind: Literal["history"]
    split: SplitName = "test"
    length: Positive | None = None
    history: Positive | None = None
    # fewer than six pairs cannot reach p < 0.05
    pieces: Annotated[Positive, Field(ge=6)] = 64
    seed: Count = 0


class Reconstruction(Measurement):
    """An ICAE's memory of held-out contexts: how well they are reconstructed and continued from it."""

    kind: Literal["reconstruction"]
    # of other contexts than the run's own
    contexts: Name | None = None
    # patterned: every id replaced by the next one, as in the paper; random: ids drawn one by one
    texts: Annotated[list[Literal["held-out", "patterned", "random"]], Field(min_length=1)] = ["held-out"]
    # tokens of a context; null is what the run was trained on
    lengths: Annotated[list[Positive], Field(min_length=1)] | None = None
    # tokens per memory vector; null is what the run was trained on
    rates: Annotated[list[Positive], Field(min_length=1)] | None = None
    # fewer than six pairs cannot reach p < 0.05
    samples: Annotated[Positive, Field(ge=6)] = 100
    # how many of them are written out, for BLEU-4 and exact match
    generated: Count = 32
    shown: Count = 3
    seed: Count = 0


Evaluation = Annotated[
    Perplexity | Forgetting | CMMLU | Samples | History | Reconstruction, Field(discriminator="kind")
]
