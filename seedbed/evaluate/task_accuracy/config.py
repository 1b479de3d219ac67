"""What a user may write of the accuracy on a task."""

from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from seedbed.config.fields import Count, Positive, PositiveNumber, Share, Strict, dump
from seedbed.errors import SeedbedError
from seedbed.evaluate.contract import Evaluation
from seedbed.objectives.thinker.config import Numbers, ThinkerRun
from seedbed.objectives.thinker.geometry import Geometry
from seedbed.objectives.thinker.tasks import layout_of

if TYPE_CHECKING:
    from seedbed.plan import Plan


class At(Strict):
    """The one setting that claims are about; null is the largest number that was trained.

    `steps_per_symbol` takes steps in proportion to the length, rounded up.
    """

    n_latent: Positive | None = None
    n_step: Positive | None = None
    steps_per_symbol: PositiveNumber | None = None

    @model_validator(mode="after")
    def says_steps_once(self) -> "At":
        if self.n_step and self.steps_per_symbol:
            raise ValueError("n_step and steps_per_symbol exclude each other; expected one of them")
        return self


class TaskAccuracy(Evaluation):
    """A Thinker's answers to held-out problems, by length, number of latents and number of steps.

    Null is what the run was trained with.
    """

    subject = "thinker"
    plots = ("task-grid", "task-length", "task-steps", "task-training")

    kind: Literal["task-accuracy"]
    lengths: Numbers | None = None
    n_latent: Numbers | None = None
    n_step: Numbers | None = None
    at: At = At()
    # problems of each length
    samples: Positive = 1024
    split: Literal["test", "valid"] = "test"
    seed: Count = 0
    # the token accuracy in validation whose training time is told
    reach: Share = 0.99
    # batches of training that are timed; 0: none
    timed: Count = 5

    def check(self, where: str, subject: str, plan: "Plan") -> None:
        run = plan.runs[subject]
        for problem in (self.misfit_length(run), self.misfit_latents(run), self.misfit_steps(run)):
            if problem:
                key, reason = problem
                raise SeedbedError(f"config: {where}.{key}: {reason} (run {subject!r})")

    def misfit_length(self, run: ThinkerRun) -> tuple[str, str] | None:
        """The key that asks for more positions than there are, and how."""
        length, geometry = max(self.lengths or [run.length]), Geometry.of(dump(run))
        rows = geometry.input_positions, geometry.output_positions
        for needed, most in zip(layout_of(dump(run.task)).sizes(length), rows, strict=True):
            if most and needed > most:
                return "lengths", f"length {length} needs {needed} positions; the model has {most}, see position_range"
        return None

    def misfit_latents(self, run: ThinkerRun) -> tuple[str, str] | None:
        """The key that asks for more latents than there are, and how."""
        most = Geometry.of(dump(run)).latents
        for key, wanted in (("n_latent", max(self.n_latent or [0])), ("at.n_latent", self.at.n_latent)):
            if wanted and not run.n_latent:
                return key, f"found {wanted}, expected none; the model has as many latents as positions"
            if wanted and wanted > most:
                return key, f"found {wanted}; the model has {most} latents, see max_latent"
        return None

    def misfit_steps(self, run: ThinkerRun) -> tuple[str, str] | None:
        """The key that asks for other steps than a table has, and how."""
        if not isinstance(run.model.flow, list):
            return None
        rows = len(run.model.flow)
        if self.at.steps_per_symbol:
            return "at.steps_per_symbol", f"has no effect with a flow table, whose steps are its {rows} rows"
        for key, wanted in (("n_step", self.n_step), ("at.n_step", self.at.n_step and [self.at.n_step])):
            if wanted and wanted != [rows]:
                return key, f"found {wanted[-1]}, expected the {rows} rows of model.flow"
        return None
