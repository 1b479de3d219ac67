"""What a user may write of multiple-choice questions."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, Tag

from seedbed.config.fields import Count, Few, Strict, by_key
from seedbed.evaluate.contract import Evaluation

if TYPE_CHECKING:
    from seedbed.plan import Plan


class DemonstrationQuestions(Strict):
    """The questions that ship with Seedbed, in CMMLU's format but not of CMMLU: they show that the chain works."""

    demonstration: Literal[True]


class FileQuestions(Strict):
    """A directory with `dev/<subject>.csv` and `test/<subject>.csv`, as CMMLU is published."""

    files: str


class HubQuestions(Strict):
    hub: str = "haonan-li/cmmlu"
    revision: str


class CMMLU(Evaluation):
    """Multiple-choice questions in CMMLU's format (arXiv 2306.09212), by next-token log-probability of A, B, C, D."""

    plots = ("cmmlu",)
    naming = ("contamination",)

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
    shots: Annotated[list[Annotated[Count, Field(le=5)]], Few] = [0, 5]

    def inputs(self, name: str, subject: str, plan: "Plan") -> dict[str, str | list[str]]:
        """Which questions occur in the corpora that a run was trained on; what a model has read nobody knows."""
        if not self.contamination:
            return {}
        return {"contamination": [f"contamination/{name}/{corpus}.json" for corpus in plan.training_corpora(subject)]}

    def files(self) -> str | list[str] | None:
        return getattr(self.source, "files", None)
