"""What a user may write of the in-context autoencoder (ICAE, arXiv 2307.06945): its runs and contexts."""

from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from seedbed.fields import Count, Name, Positive, Rate, Share, Strict, by_key
from seedbed.models.shape import Shape
from seedbed.run_config import Run

# --- contexts --------------------------------------------------------------------------------------------------------


class CorpusContexts(Strict):
    """Documents of at least `min_chars` characters, cut to `max_chars`; the first `held_out` are for evaluation."""

    corpus: Name
    min_chars: Positive = 4096
    max_chars: Positive = 4096
    held_out: Positive = 1000

    @model_validator(mode="after")
    def cut_leaves_long_ones(self) -> "CorpusContexts":
        if self.max_chars < self.min_chars:
            raise ValueError(f"max_chars {self.max_chars} is less than min_chars {self.min_chars}")
        return self


class ControlContexts(Strict):
    """Text without meaning, which needs no corpus: ids drawn one by one, or by a random Markov chain."""

    control: Literal["random", "patterned"]
    documents: Positive
    # in each document
    tokens: Positive
    held_out: Positive = 1000
    seed: Count = 0


ContextSource = Annotated[
    Annotated[CorpusContexts, Tag("<corpus>")] | Annotated[ControlContexts, Tag("<control>")],
    by_key("corpus", "control"),
]

# --- runs ------------------------------------------------------------------------------------------------------------


class Lora(Strict):
    """Low-rank updates of linear layers (arXiv 2106.09685)."""

    r: Positive = 128
    alpha: Rate = 32
    dropout: Annotated[Share, Field(lt=1)] = 0.0
    # q,v are the attention's inputs that the paper adapts; all-linear leaves embedding and output head alone
    targets: Annotated[
        Annotated[Literal["q,v", "all-linear"], Tag("<name>")]
        | Annotated[Annotated[list[str], Field(min_length=1)], Tag("<list>")],
        Discriminator(lambda value: "<list>" if isinstance(value, list) else "<name>"),
    ] = "q,v"


class Base(Strict):
    """The run whose model is the base."""

    step: ClassVar[None] = None  # its end: a base is a finished model

    run: Name


class IcaeRun(Run):
    """Compress a context of up to `seq_len` tokens into memory, and reconstruct or continue it.

    Contexts of more than `memory_tokens` x `rate` tokens are compressed in segments, each into memory of its own.
    """

    objective: Literal["icae"]
    contexts: Name
    init: Base | None = None
    attention: Literal["auto", "sdpa", "eager"] = "auto"
    # contexts of min_seq_len to seq_len tokens; null: all of seq_len
    min_seq_len: Positive | None = None
    memory_tokens: Positive = 128
    rate: Positive = 4
    layout: Literal["default", "uniform", "uniform-int", "spread"] = "default"
    # null: all weights are trained
    lora: Lora | None = Lora()
    # frozen: the base as it is; trained: updates of its own; shared: it is the encoder
    decoder: Literal["frozen", "trained", "shared"] = "frozen"
    # how often the text is continued in place of reconstructed, and how far
    lm_ratio: Share = 0.5
    continuation: Positive = 128
    leave_tokens_for_lm: Count = 8
    add_special_token_for_lm: bool = True

    @property
    def least(self) -> int:
        """Tokens of the shortest context."""
        return self.min_seq_len or self.seq_len

    def parameters(self, vocab_size: int) -> int | None:
        """Number of weights; None where it follows from a base that is not known here, or from its LoRA layers."""
        if isinstance(self.model, str) or self.lora:
            return None
        shape = Shape.of(self.model_dump())
        positions = shape.highest_position(self.seq_len, self.continuation) + 1
        copies = 1 if self.decoder == "shared" else 2
        return copies * self.model.parameters(vocab_size, positions) + shape.table_size * self.model.hidden_size

    @model_validator(mode="after")
    def numbers_are_given(self) -> "IcaeRun":
        if "auto" in (self.batch_tokens, self.optimizer.lr):
            raise ValueError("auto is a formula for language models; expected numbers for batch_tokens, optimizer.lr")
        return self

    @model_validator(mode="after")
    def contexts_are_compressed(self) -> "IcaeRun":
        if self.least > self.seq_len:
            raise ValueError(f"min_seq_len {self.least} is more than seq_len {self.seq_len}")
        if self.least < self.memory_tokens:
            raise ValueError(
                f"a context of {self.least} tokens is shorter than its memory of {self.memory_tokens}; "
                f"expected at least {self.memory_tokens} tokens, or a smaller memory_tokens"
            )
        return self

    @model_validator(mode="after")
    def something_is_predicted(self) -> "IcaeRun":
        if max(1, self.leave_tokens_for_lm) >= self.continuation:  # nothing comes before the first one
            raise ValueError(
                f"leave_tokens_for_lm {self.leave_tokens_for_lm} leaves nothing of a continuation of "
                f"{self.continuation} tokens"
            )
        return self
