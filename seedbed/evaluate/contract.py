"""What every kind of evaluation has: its configuration, and what the plan and the workflow ask of it.

A kind is a package with `config` (a subclass of `Evaluation`), `measure`, `report` and `page.html` (see
`seedbed.report.contract`), in the registry `seedbed.evaluate.EVALUATIONS`. The class loads nothing heavy; its package
says where the rest is.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from seedbed.config.fields import Name, Strict, dump, without
from seedbed.config.messages import refer_to_split
from seedbed.errors import SeedbedError

if TYPE_CHECKING:
    from seedbed.plan import Plan

SplitName = Literal["train", "valid", "test"]


class Evaluation(Strict):
    """`precision` is that of the weights; logits are compared in fp32 either way."""

    # what is measured: the `subject` of the run, or "causal-lm", which external models are
    subject: ClassVar[str] = "causal-lm"
    # the kinds of plots that show it
    plots: ClassVar[tuple[str, ...]] = ()
    # keys that name inputs, or that other stages read
    naming: ClassVar[tuple[str, ...]] = ()

    kind: str
    precision: Literal["fp32", "bf16"] = "fp32"

    def inputs(self, name: str, subject: str, plan: "Plan") -> dict[str, str | list[str]]:
        """The files that the evaluation `name` of a run or model reads besides it, by name, below the results."""
        return {}

    def files(self) -> str | list[str] | None:
        """Local files, directories or globs that the user may change, if it reads any."""
        return None

    def check(self, where: str, subject: str, plan: "Plan") -> None:
        """Raise SeedbedError where this is not for such a run or model, or needs what is not there."""

    def spec(self) -> dict:
        """All that measuring reads of it."""
        return without(dump(self), *self.naming)


class OnText(Evaluation):
    """An evaluation on the tokens of a corpus, the run's own if none is named."""

    naming = ("corpus",)

    corpus: Name | None = None

    @property
    def needed_splits(self) -> list[str]:
        return [self.split]

    def corpus_of(self, where: str, subject: str, plan: "Plan") -> str:
        """The corpus that a run or model is measured on."""
        own = getattr(plan.runs.get(subject), "corpus", None)
        if self.corpus is None and own is None:
            raise SeedbedError(f"config: {where}.corpus: missing; {subject!r} has no corpus of its own")
        return self.corpus or own

    def inputs(self, name: str, subject: str, plan: "Plan") -> dict[str, str | list[str]]:
        corpus = self.corpus_of(f"evaluations.{name}", subject, plan)
        return {"tokens": f"tokens/{corpus}/{plan.tokenizer_of(subject)}/index.json"}

    def check(self, where: str, subject: str, plan: "Plan") -> None:
        corpus = self.corpus_of(where, subject, plan)
        for split in self.needed_splits:
            refer_to_split(where, corpus, plan.config.corpora, split)
