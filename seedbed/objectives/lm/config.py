"""Configuration of a language-model run."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import model_validator

from seedbed.config.fields import Count, Name, Positive, Strict
from seedbed.config.messages import refer, refer_to_split
from seedbed.config.run import Facts, TokenRun
from seedbed.data.formats import INDEX, Index
from seedbed.errors import SeedbedError
from seedbed.iterate import divisors
from seedbed.models.scaling import resolved

if TYPE_CHECKING:
    from seedbed.plan import Plan


class Recurrence(Strict):
    """Segments of `work_size` tokens that attend to `cache_size` cached keys and values (arXiv 1901.02860).

    Gradients cross `stop_gradient_step` segments.
    """

    work_size: Positive
    cache_size: Count
    stop_gradient_step: Positive = 1


class LanguageModelRun(TokenRun):
    """Predict the next token of packed windows."""

    objective_class = "seedbed.objectives.lm.objective:LanguageModelling"
    subject = "causal-lm"
    subject_class = "seedbed.objectives.lm.subject:CausalLM"
    naming = ("corpus", *TokenRun.naming)

    objective: Literal["lm"] = "lm"
    corpus: Name
    # shuffle: windows in a random order; order: each row of a batch continues where it ended in the batch before
    data: Literal["shuffle", "order"] = "shuffle"
    attention: Literal["auto", "sdpa", "flash_attention_2", "flex_attention", "eager"] = "auto"
    recurrence: Recurrence | None = None

    @model_validator(mode="after")
    def segments_fill_sequences(self) -> "LanguageModelRun":
        if self.recurrence:
            crossed = self.recurrence.work_size * self.recurrence.stop_gradient_step
            if self.seq_len % crossed:
                near = sorted(divisors(self.seq_len), key=lambda n: abs(n - crossed))[:2]
                raise ValueError(
                    f"recurrence: work_size x stop_gradient_step, {crossed}, does not divide seq_len {self.seq_len}; "
                    f"nearest that do: {' or '.join(map(str, sorted(near)))}"
                )
        return self

    @property
    def tokens(self) -> str:
        return f"tokens/{self.corpus}/{self.tokenizer}"

    def with_models(self, where: str, models: dict[str, Any]) -> "LanguageModelRun":
        run = super().with_models(where, models)
        if isinstance(run.model, str):
            raise SeedbedError(f"config: {where}.model: {run.model!r} is an external model; expected one with a family")
        return run

    def with_numbers(self) -> "LanguageModelRun":
        return resolved(self)

    def check(self, where: str, plan: "Plan") -> None:
        refer(f"{where}.corpus", self.corpus, plan.config.corpora, "corpus")
        super().check(where, plan)
        facts = self.model.facts
        if self.recurrence and facts.no_recurrence:
            raise SeedbedError(f"config: {where}.recurrence: needs {facts.no_recurrence}")
        refer_to_split(where, self.corpus, plan.config.corpora, "valid")
        if facts.positions is not None and facts.positions < self.seq_len:
            raise SeedbedError(
                f"config: {where}: seq_len {self.seq_len} does not fit the {facts.positions} positions of its model"
            )

    def check_init(self, where: str, plan: "Plan") -> TokenRun:
        origin = super().check_init(where, plan)
        facts = self.model.facts
        if facts.learned and self.seq_len > (facts.positions or origin.seq_len):
            raise SeedbedError(
                f"config: {where}: seq_len {self.seq_len} does not fit the {origin.seq_len} positions that "
                f"{self.init.run!r} has learned"
            )
        return origin

    def facts(self, plan: "Plan") -> Facts:
        vocabulary, index = plan.vocabulary(self.tokenizer), plan.stored(f"{self.tokens}/{INDEX}", Index)
        return Facts(
            vocabulary and self.model.facts.parameters(vocabulary, self.seq_len),
            index and index["splits"]["train"]["tokens"],
        )
