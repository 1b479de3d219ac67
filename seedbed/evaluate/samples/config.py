"""What a user may write of samples."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from seedbed.config.fields import Count, Few, Number, Positive, PositiveNumber, Strict
from seedbed.evaluate.contract import Evaluation


class Sampling(Strict):
    """Tokens drawn from softmax(logits / temperature), cut to its nucleus (arXiv 1904.09751)."""

    temperature: PositiveNumber = 1.0
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


class Samples(Evaluation):
    """Continuations of prompts, each by every setting of `decoding`."""

    kind: Literal["samples"]
    prompts: Annotated[list[Annotated[str, Field(min_length=1)]], Few]
    max_new_tokens: Positive = 64
    decoding: Annotated[list[Decoding], Few, AfterValidator(each_once)] = ["greedy"]
