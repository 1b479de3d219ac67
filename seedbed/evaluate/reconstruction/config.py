"""What a user may write of the reconstruction of contexts."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from seedbed.config.fields import Count, Few, Name, Positive
from seedbed.config.messages import refer
from seedbed.errors import SeedbedError
from seedbed.evaluate.contract import Evaluation

if TYPE_CHECKING:
    from seedbed.plan import Plan


class Reconstruction(Evaluation):
    """An ICAE's memory of held-out contexts: how well they are reconstructed and continued from it."""

    subject = "icae"
    plots = ("reconstruction", "compression")
    naming = ("contexts",)

    kind: Literal["reconstruction"]
    # of other contexts than the run's own
    contexts: Name | None = None
    # patterned: every id replaced by the next one, as in the paper; random: ids drawn one by one
    texts: Annotated[list[Literal["held-out", "patterned", "random"]], Few] = ["held-out"]
    # tokens of a context; null is what the run was trained on
    lengths: Annotated[list[Positive], Few] | None = None
    # tokens per memory vector; null is what the run was trained on
    rates: Annotated[list[Positive], Few] | None = None
    # fewer than six pairs cannot reach p < 0.05
    samples: Annotated[Positive, Field(ge=6)] = 100
    # how many of them are written out, for BLEU-4 and exact match
    generated: Count = 32
    shown: Count = 3
    seed: Count = 0

    def contexts_of(self, subject: str, plan: "Plan") -> str:
        return self.contexts or plan.runs[subject].contexts

    def inputs(self, name: str, subject: str, plan: "Plan") -> dict[str, str | list[str]]:
        return {"tokens": f"contexts/{self.contexts_of(subject, plan)}/{plan.tokenizer_of(subject)}/index.json"}

    def check(self, where: str, subject: str, plan: "Plan") -> None:
        run = plan.runs[subject]
        refer(f"{where}.contexts", self.contexts_of(subject, plan), plan.config.contexts, "set of contexts")
        shortest = min(self.lengths or [run.seq_len])
        if shortest < run.memory_tokens:
            raise SeedbedError(
                f"config: {where}.lengths: a context of {shortest} tokens is shorter than the memory of {subject!r}, "
                f"{run.memory_tokens}"
            )
