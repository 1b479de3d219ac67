"""Configuration of an in-context autoencoder's run (ICAE, arXiv 2307.06945)."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from seedbed.config.fields import Count, Few, Name, Positive, PositiveNumber, Share, Strict, dump
from seedbed.config.messages import refer
from seedbed.config.run import Facts, TokenRun
from seedbed.errors import SeedbedError, choices
from seedbed.models.facts import without_numbers
from seedbed.objectives.icae.geometry import Geometry

if TYPE_CHECKING:
    from seedbed.plan import Plan


class Lora(Strict):
    """Low-rank updates of linear layers (arXiv 2106.09685)."""

    r: Positive = 128
    alpha: PositiveNumber = 32
    dropout: Annotated[Share, Field(lt=1)] = 0.0
    # q,v: query and value projections, as in the paper; all-linear: all linear layers but the output head
    targets: Annotated[
        Annotated[Literal["q,v", "all-linear"], Tag("<name>")] | Annotated[Annotated[list[str], Few], Tag("<list>")],
        Discriminator(lambda value: "<list>" if isinstance(value, list) else "<name>"),
    ] = "q,v"


def unknown_target(wanted: str | list[str], linear: list[str], base: str) -> str | None:
    """What is wrong where one of the names is that of no linear layer; PEFT is content when another one is."""
    names = {without_numbers(name) for name in linear}
    for target in [] if isinstance(wanted, str) else wanted:
        if not any(f".{name}".endswith(f".{without_numbers(target)}") for name in names):
            last = sorted({name.rpartition(".")[2] for name in names})
            return f"lora.targets: no linear layer {target!r} in {base}{choices(target, last)}"
    return None


class Base(Strict):
    """The run whose model is the base."""

    step: ClassVar[None] = None  # the end of the run: a base is a finished model

    run: Name


class IcaeRun(TokenRun):
    """Compress a context of up to `seq_len` tokens into memory, and reconstruct or continue it.

    Contexts of more than `memory_tokens` x `rate` tokens are compressed in segments, each into its own memory.
    """

    objective_class = "seedbed.objectives.icae.objective:InContextAutoencoding"
    subject = "icae"
    subject_class = "seedbed.objectives.icae.subject:IcaeSubject"
    naming = ("contexts", *TokenRun.naming)

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
    # frozen: the base as it is; trained: weights or an adapter of its own; shared: those of the encoder
    decoder: Literal["frozen", "trained", "shared"] = "frozen"
    # share of samples that continue the text instead of reconstructing it, and by how many tokens
    lm_ratio: Share = 0.5
    continuation: Positive = 128
    leave_tokens_for_lm: Count = 8
    add_special_token_for_lm: bool = True

    @property
    def least(self) -> int:
        """Tokens of the shortest context."""
        return self.min_seq_len or self.seq_len

    @property
    def tokens(self) -> str:
        return f"contexts/{self.contexts}/{self.tokenizer}"

    def inputs(self) -> dict[str, str]:
        return super().inputs() | ({"init": f"models/{self.model}"} if isinstance(self.model, str) else {})

    def check(self, where: str, plan: "Plan") -> None:
        refer(f"{where}.contexts", self.contexts, plan.config.contexts, "set of contexts")
        if isinstance(self.model, str) and self.init:
            raise SeedbedError(f"config: {where}: model {self.model!r} is a base already; expected no init")
        super().check(where, plan)
        self.check_targets(where, plan)
        if isinstance(self.model, str):  # its positions are known once it is downloaded
            if self.tokenizer != self.model:
                raise SeedbedError(
                    f"config: {where}.tokenizer: found {self.tokenizer!r}, expected that of its model, {self.model!r}"
                )
            return
        if not self.init and (self.lora or self.decoder == "frozen"):
            what = "lora" if self.lora else "decoder"
            raise SeedbedError(
                f"config: {where}.{what}: keeps a base that was never trained; expected init, an external model, or "
                f"{'lora: null' if self.lora else 'decoder shared or trained'}"
            )
        facts = self.model.facts
        learned = facts.positions or (self.init and plan.runs[self.init.run].seq_len)
        if facts.learned:
            problem = Geometry.of(dump(self)).misfit(self.model.family, self.seq_len, self.continuation, learned)
            if problem:
                raise SeedbedError(f"config: {where}: {problem}")

    def check_targets(self, where: str, plan: "Plan") -> None:
        """Raise SeedbedError where LoRA is for layers that its base, as far as that is known, has not."""
        facts = plan.external_facts(self.model) if isinstance(self.model, str) else self.model.facts
        if self.lora and facts:
            name = self.model if isinstance(self.model, str) else self.model.family
            if problem := unknown_target(self.lora.targets, facts.linear, name):
                raise SeedbedError(f"config: {where}.{problem}")

    def facts(self, plan: "Plan") -> Facts:
        vocabulary = plan.vocabulary(self.tokenizer)
        return Facts(vocabulary and self.parameters(vocabulary))

    def parameters(self, vocabulary: int) -> int | None:
        """Number of weights; None where it depends on LoRA layers or on an external base."""
        if isinstance(self.model, str) or self.lora:
            return None
        geometry = Geometry.of(dump(self))
        positions = geometry.highest_position(self.seq_len, self.continuation) + 1
        copies = 1 if self.decoder == "shared" else 2
        facts = self.model.facts
        return copies * facts.parameters(vocabulary, positions) + geometry.table_size * facts.width

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
        if max(1, self.leave_tokens_for_lm) >= self.continuation:  # nothing precedes the first token
            raise ValueError(
                f"leave_tokens_for_lm {self.leave_tokens_for_lm} leaves nothing of a continuation of "
                f"{self.continuation} tokens"
            )
        return self
