"""Configuration of a Thinker's run: a task, a model that takes steps, a curriculum, and how much it may compute."""

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from seedbed.config.fields import Count, Few, Number, Positive, PositiveNumber, Share, Strict, dump, numbers_of
from seedbed.config.run import Budget, Facts, Run, Unit, Validation
from seedbed.errors import SeedbedError, choices, shown
from seedbed.files import canonical_json
from seedbed.objectives.thinker.flow import NAMED, Row, misfit
from seedbed.objectives.thinker.geometry import Geometry
from seedbed.objectives.thinker.tasks import TASKS, generate, layout_of, task_of

if TYPE_CHECKING:
    from seedbed.plan import Plan


class Range(Strict):
    """Whole numbers from `first` to `last`, each `step` more than the one before."""

    first: Positive
    last: Positive
    step: Positive = 1

    @model_validator(mode="after")
    def in_order(self) -> "Range":
        if self.last < self.first:
            raise ValueError(f"an empty range: last {self.last} is less than first {self.first}")
        return self


def written_out(numbers: int | list[int] | Range) -> list[int]:
    """The numbers themselves, in order and each once."""
    if isinstance(numbers, Range):
        return numbers_of(range(numbers.first, numbers.last + 1, numbers.step))
    return sorted({numbers}) if isinstance(numbers, int) else sorted(set(numbers))


def range_form(value: Any) -> str:
    if isinstance(value, list):
        return "<list>"
    return "<range>" if isinstance(value, dict | Range) else "<number>"


# One number, a list, or a range.
Numbers = Annotated[
    Annotated[Positive, Tag("<number>")]
    | Annotated[Annotated[list[Positive], Few], Tag("<list>")]
    | Annotated[Range, Tag("<range>")],
    Discriminator(range_form),
    AfterValidator(written_out),
]


# --- tasks --------------------------------------------------------------------------------------------------------


class Symbols(Strict):
    """A task on sequences of numbers below `symbols`, drawn uniformly."""

    symbols: Annotated[Positive, Field(ge=2, le=2**16)]


class Plain(Symbols):
    """copy; flip: from the last to the first; sort; cumsum: the running sum modulo `symbols`."""

    name: Literal["copy", "flip", "sort", "cumsum"]


class Roll(Symbols):
    """Each symbol moves `shift` places on, the last ones to the front."""

    name: Literal["roll"]
    shift: Positive


class RollNum(Symbols):
    """`add` is added to each symbol, modulo `symbols`."""

    name: Literal["roll_num"]
    add: Positive


class Jump(Symbols):
    """Every `stride`-th symbol, going round: output i is symbol i * stride modulo the length."""

    name: Literal["jump"]
    stride: Positive


class Addition(Strict):
    """The sum of two numbers of up to `length` digits, the least significant first.

    Fixed width fills up with zeros; with variable width numbers have as many digits as they need, and the sum ends with
    a marker of its own.
    """

    name: Literal["addition"]
    base: Annotated[Positive, Field(ge=2, le=2**15)]
    # the largest number that is added; null: what the digits allow
    largest: Annotated[Positive, Field(lt=2**62)] | None = None
    width: Literal["fixed", "variable"] = "fixed"


LONGEST = 2**20  # symbols of a sequence
TRIED = 1024  # of them a task of the user's is tried on
PYTHON = r"[^:\n]+\.py:[A-Za-z_]\w*"


class Custom(Symbols):
    """A function of your own, `file.py:function`: `function(x, lengths)` takes and returns symbols [B, n]."""

    python: Annotated[str, Field(pattern=f"^{PYTHON}$")]
    # what else the function is given
    parameters: dict[str, int] = {}

    @property
    def file(self) -> str:
        return self.python.partition(":")[0]


KINDS = {
    name: kind
    for kind in (Plain, Roll, RollNum, Jump, Addition)
    for name in kind.model_fields["name"].annotation.__args__
}


def task_form(value: Any) -> str:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return "<python>" if name is None else f"<{KINDS[name].__name__}>"


def known_task(value: Any) -> Any:
    """A task by a name that exists, or of a file, so that a wrong one is one line."""
    if isinstance(value, Strict):
        return value
    if not isinstance(value, dict) or not {"name", "python"} & value.keys():
        raise ValueError("expected a mapping with name, or with python for a function of your own")
    if "name" in value and str(name := value["name"]) not in TASKS:
        raise ValueError(f"name: found {shown(name)}{choices(str(name), TASKS)}")
    if "name" not in value and not re.fullmatch(PYTHON, str(value["python"])):
        raise ValueError(f"python: expected file.py:function; found {shown(value['python'])}")
    return value


AnyTask = Annotated[
    Annotated[
        Annotated[Plain, Tag("<Plain>")]
        | Annotated[Roll, Tag("<Roll>")]
        | Annotated[RollNum, Tag("<RollNum>")]
        | Annotated[Jump, Tag("<Jump>")]
        | Annotated[Addition, Tag("<Addition>")]
        | Annotated[Custom, Tag("<python>")],
        Discriminator(task_form),
    ],
    BeforeValidator(known_task),
]


# --- model, curriculum, loss --------------------------------------------------------------------------------------


class Step(Strict):
    """A row of a flow plan, see `seedbed.objectives.thinker.flow`."""

    read_input: bool = False
    mem_lookup: bool = False
    mem_write: bool = False
    static_mem_lookup: bool = False
    output: bool = False


FlowPlan = Annotated[
    Annotated[Literal[NAMED], Tag("<name>")] | Annotated[Annotated[list[Step], Few], Tag("<table>")],
    Discriminator(lambda value: "<table>" if isinstance(value, list) else "<name>"),
]


class ThinkerModel(Strict):
    """Latents that attend, step after step, to the input and to what they were before; output queries read the result.

    `num_layers` are those of a step, the same at every step, and `output_layers` those of the output.
    """

    hidden_size: Positive = 32
    num_attention_heads: Positive = 4
    # null: four times the hidden size
    intermediate_size: Positive | None = None
    num_layers: Positive = 1
    output_layers: Positive = 1
    # pre: queries, memory and output are normalised; post: what a layer leaves
    norm: Literal["pre", "post"] = "pre"
    # random: an ordered sample of the table for each batch (arXiv 2305.16843); rope: relative (arXiv 2104.09864)
    positions: Literal["learned", "sinusoidal", "random", "rope", "none"] = "learned"
    # rows of the table of positions; null: as many as the length needs
    position_range: Positive | None = None
    # learned: vectors of their own, as many as n_latent says; position: one for each position of the input
    latents: Literal["learned", "position"] = "learned"
    # rows of the table of latents; null: the largest n_latent
    max_latent: Positive | None = None
    # how far a latent or an output sees to either side, for latents by position
    window: Positive | None = None
    # the first steps that read the input; null: all, and the output, too (recall)
    read_step: Positive | None = None
    # how many of the latest steps stay in memory; null: all
    n_memory: Positive | None = None
    # learned vectors in memory that never change
    static_memory: Count = 0
    # passes of the output queries
    output_step: Positive = 1
    # parallel: all outputs at once; output_ar: each after those before it; full_ar: the latents are the outputs so far,
    # as in Perceiver AR (arXiv 2202.07765)
    decoding: Literal["parallel", "output_ar", "full_ar"] = "parallel"
    # what happens at each step: a named strategy, or a table with a row for each step; null: the plain loop
    flow: FlowPlan | None = None
    tie_word_embeddings: bool = False
    # embeddings begin uniform between minus this and this
    embedding_range: PositiveNumber = 0.3
    dropout: Annotated[Share, Field(lt=1)] = 0.0
    # standard deviation of what is added to the first latents in training
    latent_noise: Annotated[Number, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def parts_fit(self) -> "ThinkerModel":
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} does not divide into {self.num_attention_heads} heads")
        if self.positions == "rope" and self.hidden_size // self.num_attention_heads % 2:
            raise ValueError(f"rope needs heads of even width; found {self.hidden_size // self.num_attention_heads}")
        if self.window and self.latents != "position":
            raise ValueError("window is for latents by position; expected latents: position")
        if self.latents == "position":
            self.needs_no("latents by position", max_latent=None)
        if self.decoding == "full_ar":
            self.needs_no(
                "full_ar", flow=None, latents="learned", max_latent=None, output_step=1, output_layers=1, window=None
            )
        if isinstance(self.flow, list) and (
            problem := misfit([Row(**dump(row)) for row in self.flow], self.static_memory > 0)
        ):
            raise ValueError(f"flow: {problem}")
        if self.flow:
            self.needs_no("a flow plan", read_step=None)
        return self

    def needs_no(self, what: str, **without: Any) -> None:
        """Raise ValueError where a key is set that would have no effect."""
        for key, value in without.items():
            if getattr(self, key) != value:
                raise ValueError(f"{key} has no effect with {what}; expected none")


class Fixed(Strict):
    """Every sequence has the length of the run."""

    kind: Literal["fixed"]


class Uniform(Strict):
    """Lengths are uniform from `first` to that of the run."""

    kind: Literal["uniform"]
    first: Positive = 1


class Progressive(Strict):
    """Lengths are uniform up to a target, which begins at `first` and grows to the length of the run.

    It grows by `delta` when the mean accuracy of the last `window` batches, all at this target, reaches `threshold`.
    """

    kind: Literal["progressive"]
    first: Positive = 2
    delta: Positive = 1
    threshold: Share = 0.9
    window: Positive = 20


Curriculum = Annotated[Fixed | Uniform | Progressive, Field(discriminator="kind")]


class Loss(Strict):
    """Cross-entropy of the answers at the last step, at all steps, or at all steps in proportion to their number.

    progressive (arXiv 2202.05826): a random number of steps without gradient, then the answer after a random number of
    further ones; it counts for `alpha`, that after all steps for the rest.
    """

    kind: Literal["last", "all", "scaled", "progressive"] = "last"
    alpha: Share | None = None

    @model_validator(mode="after")
    def alpha_has_an_effect(self) -> "Loss":
        if (self.alpha is not None) != (self.kind == "progressive"):
            raise ValueError(
                f"alpha is for the progressive loss, which needs it; found {self.kind}, alpha {self.alpha}"
            )
        return self


class SampleBudget(Budget):
    """Samples or steps; there are no epochs, as tasks are drawn without end."""

    samples: Positive | None = None

    @model_validator(mode="after")
    def no_epochs(self) -> "SampleBudget":
        if self.epochs:
            raise ValueError("epochs: a task is drawn without end; expected samples or steps")
        return self


class SampleValidation(Validation):
    """On `samples` held-out sequences of the run's length, with the most latents and steps that are trained."""

    samples: Positive = 512


class ThinkerRun(Run):
    """Learn a task on sequences with a model that computes in steps.

    `n_latent` and `n_step` are drawn for each batch from the numbers given.
    """

    objective_class: ClassVar[str] = "seedbed.objectives.thinker.objective:Thinking"
    subject: ClassVar[str] = "thinker"
    subject_class: ClassVar[str] = "seedbed.objectives.thinker.subject:ThinkerSubject"

    objective: Literal["thinker"]
    task: AnyTask
    # of sequences: symbols, or digits of a number
    length: Annotated[Positive, Field(le=LONGEST)]
    curriculum: Curriculum = Fixed(kind="fixed")
    model: ThinkerModel = ThinkerModel()
    # none where each position, or each output, has its own
    n_latent: Numbers | None = None
    n_step: Numbers
    loss: Loss = Loss()
    # samples per step
    batch: Positive
    budget: SampleBudget
    # models so small that bf16 brings nothing
    precision: Literal["fp32"] = "fp32"
    validation: SampleValidation = SampleValidation()

    def files(self) -> dict[str, str]:
        return {"task": self.task.file} if isinstance(self.task, Custom) else {}

    def check(self, where: str, plan: "Plan") -> None:
        super().check(where, plan)
        if isinstance(self.task, Custom):  # tried, so that a mistake shows before anything runs
            task, length = dump(self.task), min(self.length, TRIED)
            if (tried := (canonical_json(task), length)) in plan.tried:
                return
            try:
                generate(task_of(task), "train", 0, range(8), 1, length)
            except SeedbedError as error:
                raise SeedbedError(f"config: {where}.task.python: {error}") from None
            plan.tried.add(tried)

    def check_init(self, where: str, plan: "Plan") -> "Run":
        origin = super().check_init(where, plan)
        if self.task != origin.task:
            raise SeedbedError(f"config: {where}.init: {self.init.run!r} has a different task; expected the same")
        if Geometry.of(dump(self)) != Geometry.of(dump(origin)):
            raise SeedbedError(
                f"config: {where}.init: {self.init.run!r} has weights of other shapes; expected the same model sizes, "
                "position_range and max_latent"
            )
        return origin

    @classmethod
    def unit(cls, spec: dict) -> Unit:
        return Unit("samples", spec["batch"])

    def facts(self, plan: "Plan") -> Facts:
        return Facts(parameters=Geometry.of(dump(self)).parameters)

    @model_validator(mode="after")
    def rate_is_a_number(self) -> "ThinkerRun":
        if self.optimizer.lr == "auto":
            raise ValueError("optimizer.lr: auto is a formula for language models; expected a number")
        return self

    @model_validator(mode="after")
    def curriculum_ends_at_length(self) -> "ThinkerRun":
        first = getattr(self.curriculum, "first", 1)
        if first > self.length:
            raise ValueError(f"curriculum.first {first} is beyond length {self.length}")
        return self

    @model_validator(mode="after")
    def numbers_are_bounded(self) -> "ThinkerRun":
        task = self.task
        digits = min(self.length, 62)  # more than `largest` has in any base
        if isinstance(task, Addition) and task.largest and task.largest >= task.base**digits:
            raise ValueError(f"task.largest {task.largest} has more than {self.length} digits in base {task.base}")
        return self

    @model_validator(mode="after")
    def latents_exist(self) -> "ThinkerRun":
        model, own = self.model, self.model.latents == "position" or self.model.decoding == "full_ar"
        if own and self.n_latent:
            what = "full_ar" if model.decoding == "full_ar" else "latents by position"
            raise ValueError(f"n_latent: {what} has as many latents as positions; expected none")
        if not own and not self.n_latent:
            raise ValueError("n_latent: missing; expected a number, a list or {first: .., last: ..}")
        if model.max_latent and self.n_latent and max(self.n_latent) > model.max_latent:
            raise ValueError(f"n_latent {max(self.n_latent)} is more than model.max_latent {model.max_latent}")
        return self

    @model_validator(mode="after")
    def positions_exist(self) -> "ThinkerRun":
        model, needed = self.model, max(layout_of(dump(self.task)).sizes(self.length))
        if model.positions == "random" and not model.position_range:
            raise ValueError("model.position_range: missing; random positions are drawn from it")
        if model.positions in ("learned", "random") and model.position_range and model.position_range < needed:
            raise ValueError(
                f"length {self.length} needs {needed} positions; model.position_range has {model.position_range}"
            )
        if model.window and isinstance(self.task, Addition):
            raise ValueError("model.window: the digits of a sum are not at the places of its numbers; expected none")
        return self

    @model_validator(mode="after")
    def vocabularies_are_one(self) -> "ThinkerRun":
        if self.model.tie_word_embeddings and isinstance(self.task, Addition):
            raise ValueError("model.tie_word_embeddings: addition answers with other symbols than it reads")
        return self

    @model_validator(mode="after")
    def flow_fits(self) -> "ThinkerRun":
        if isinstance(self.model.flow, list) and self.n_step != [len(self.model.flow)]:
            raise ValueError(
                f"n_step: found {shown(self.n_step)}, expected the {len(self.model.flow)} rows of model.flow"
            )
        if self.model.flow and self.loss.kind == "progressive":
            raise ValueError("loss: progressive goes without a flow plan, which says itself when to answer")
        return self
