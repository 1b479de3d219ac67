"""Configuration of a run: model, data, budget, optimizer, schedule, and all else that determines its result."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from seedbed.config.fields import (
    Beta,
    Count,
    Name,
    Number,
    Positive,
    PositiveNumber,
    Share,
    Strict,
    dump,
    without,
)
from seedbed.config.messages import refer
from seedbed.errors import SeedbedError
from seedbed.models.config import ExternalModel, ModelOrName

if TYPE_CHECKING:  # a plan is made of runs
    from seedbed.plan import Plan


class Budget(Strict):
    """How long a run trains: exactly one of steps, epochs and, for runs over tokens, tokens."""

    steps: Positive | None = None
    epochs: Annotated[PositiveNumber, Field(le=1e9)] | None = None

    @model_validator(mode="after")
    def exactly_one(self) -> "Budget":
        keys = list(type(self).model_fields)
        if sum(getattr(self, key) is not None for key in keys) != 1:
            raise ValueError(f"expected exactly one of {', '.join(sorted(keys, reverse=True))}")
        return self


class TokenBudget(Budget):
    """Tokens, steps, or epochs of the training split."""

    tokens: Positive | None = None


@dataclass(frozen=True)
class Unit:
    """The unit that a run counts in, called `name`: `per_step` of them in a step, `per_sample` in a sample."""

    name: str
    per_step: int
    per_sample: int = 1

    @property
    def samples(self) -> int:
        """Samples per step."""
        return self.per_step // self.per_sample

    @property
    def speed(self) -> str:
        """Key of units per second in metrics and summaries."""
        return f"{self.name}_per_second"

    @property
    def own(self) -> str:
        """Key of the units that a run itself was trained on, without shared steps."""
        return f"own_{self.name}"

    def steps(self, budget: dict, epoch: int | None = None) -> int | None:
        """Optimizer steps of a budget, at least one; None for epochs whose size in units is not known yet."""
        if budget["steps"]:
            return budget["steps"]
        if budget["epochs"] and epoch is None:
            return None
        return max(1, round((budget.get(self.name) or budget["epochs"] * epoch) / self.per_step))


def or_auto(number: Any) -> Any:
    """A number, or the word auto."""
    return Annotated[
        Annotated[Literal["auto"], Tag("<auto>")] | Annotated[number, Tag("<number>")],
        Discriminator(lambda value: "<auto>" if value == "auto" else "<number>"),
    ]


AutoRate = or_auto(PositiveNumber)
AutoCount = or_auto(Positive)


class Optimizer(Strict):
    """`lr: auto` is the DeepSeek-LLM formula (seedbed.models.scaling); decay applies to matrices inside the blocks."""

    name: str
    lr: AutoRate = 1e-3
    weight_decay: Annotated[Number, Field(ge=0)] = 0.1
    # also on norms, biases and embeddings
    decay_all: bool = False


class Adam(Optimizer):
    """adamw: decoupled decay (arXiv 1711.05101); adam: coupled; adamw8bit: 8-bit moments (arXiv 2110.02861)."""

    name: Literal["adamw", "adam", "adamw8bit"] = "adamw"
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    eps: PositiveNumber = 1e-8


class Adafactor(Optimizer):
    """Second moments as row and column means (arXiv 1804.04235)."""

    name: Literal["adafactor"]


class Muon(Optimizer):
    """Orthogonalised momentum for the matrices inside the blocks, AdamW with betas and eps for the rest."""

    name: Literal["muon"]
    momentum: Beta = 0.95
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    eps: PositiveNumber = 1e-8


def optimizer_form(value: Any) -> str:
    name = value.get("name", "adamw") if isinstance(value, dict) else getattr(value, "name", "adamw")
    return f"<{name}>" if name in ("adafactor", "muon") else "<adam>"


AnyOptimizer = Annotated[
    Annotated[Adam, Tag("<adam>")] | Annotated[Adafactor, Tag("<adafactor>")] | Annotated[Muon, Tag("<muon>")],
    Discriminator(optimizer_form),
]


class Warmup(Strict):
    """Linear from 0 to `optimizer.lr`, given in steps or as a share of all steps."""

    warmup_steps: Count | None = None
    warmup_ratio: Share | None = None

    @model_validator(mode="after")
    def at_most_one(self) -> "Warmup":
        if self.warmup_steps is not None and self.warmup_ratio is not None:
            raise ValueError("expected one of warmup_steps, warmup_ratio, found both")
        return self


class Constant(Warmup):
    kind: Literal["constant"]


class Linear(Warmup):
    kind: Literal["linear"]
    min_lr_ratio: Share = 0.0


class Cosine(Warmup):
    kind: Literal["cosine"]
    min_lr_ratio: Share = 0.1


class CosineRestarts(Warmup):
    """`cycles` equal half-waves after the warm-up (SGDR, arXiv 1608.03983)."""

    kind: Literal["cosine-restarts"]
    cycles: Positive
    min_lr_ratio: Share = 0.1


class WSD(Warmup):
    """Warm-up, stable, decay (MiniCPM, arXiv 2404.06395): decay starts at `stable_ratio` of all steps."""

    kind: Literal["wsd"]
    stable_ratio: Share = 0.9
    decay: Literal["linear", "cosine", "sqrt", "exponential"] = "linear"
    min_lr_ratio: Share = 0.0

    @model_validator(mode="after")
    def exponential_has_a_floor(self) -> "WSD":
        if self.decay == "exponential" and not self.min_lr_ratio:
            raise ValueError("exponential decay never reaches 0: expected min_lr_ratio above 0")
        return self


class Plateau(Warmup):
    """Times `factor` after more than `patience` validations without an improvement by the share `threshold`."""

    kind: Literal["plateau"]
    factor: Annotated[Number, Field(gt=0, lt=1)] = 0.5
    patience: Count = 10
    threshold: Share = 1e-4
    min_lr_ratio: Share = 0.0


Schedule = Annotated[Constant | Linear | Cosine | CosineRestarts | WSD | Plateau, Field(discriminator="kind")]


class Validation(Strict):
    """Loss on held-out data, every `every` steps and after the last one."""

    every: Positive = 100


class TokenValidation(Validation):
    """On the first `tokens` of the validation split."""

    tokens: Positive = 65536


class Init(Strict):
    """Start from the weights that another run had after `step` updates, or ended with."""

    run: Name
    step: Positive | None = None
    # resume its optimizer state, too
    optimizer: bool = False

    @model_validator(mode="after")
    def state_has_a_step(self) -> "Init":
        if self.optimizer and self.step is None:
            raise ValueError("the optimizer state of a finished run is not kept; expected a step, too")
        return self


class Spikes(Strict):
    """A loss above `factor` times a running quantile, or not finite: roll back to a checkpoint and skip batches.

    The quantile is over the last `window` steps; before that many, only a loss that is not finite is a spike. Training
    resumes from the last multiple of `every` steps before the spike, and skips the batches read since then.
    """

    window: Positive = 128
    quantile: Share = 0.9
    factor: Annotated[Number, Field(gt=1)] = 1.5
    every: Positive = 100
    max_rollbacks: Count = 3


@dataclass(frozen=True)
class Facts:
    """What a dry run shows of a run; None where it depends on something that is not built yet."""

    parameters: int | None = None
    epoch: int | None = None  # units of one epoch


class Run(Strict):
    """Base class of runs: the keys that all kinds have, and what planning requires of them; loads no torch.

    A kind of run is a subclass with its own value of `objective`, listed in the registry `seedbed.objectives`. Its
    *spec* is what `spec` returns: the identity of the run as plain JSON, and all that training knows of it.
    """

    # module:name of the `seedbed.objectives.contract.Objective` that trains it
    objective_class: ClassVar[str]
    # the kind of subject that a finished run is to an evaluation, and module:name of the class that loads it
    subject: ClassVar[str]
    subject_class: ClassVar[str]
    # the kind of subject that `init` may name a run of; None: the same as this run's
    starts_from: ClassVar[str | None] = None
    # keys that name inputs: not in the spec, as the checksums of their files are in the identity
    naming: ClassVar[tuple[str, ...]] = ()

    objective: str
    budget: Budget
    optimizer: AnyOptimizer = Adam()
    schedule: Schedule = Cosine(kind="cosine", warmup_ratio=0.05)
    clip: PositiveNumber | None = 1.0
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    spikes: Spikes | None = None
    init: Init | None = None
    seed: Count = 0
    validation: Validation = Validation()
    log_every: Positive = 10

    def with_models(self, where: str, models: dict[str, Any]) -> "Run":
        """The run with names of `models` replaced by their values."""
        return self

    def with_numbers(self) -> "Run":
        """The run with numbers in place of `auto`; raises ValueError where they cannot be computed."""
        return self

    def inputs(self) -> dict[str, str]:
        """The files that training reads, by name, below the results: small ones that describe the data beside them."""
        return {}

    def files(self) -> dict[str, str]:
        """Local files of the user's that training reads, by name, as they are written in the configuration."""
        return {}

    def check(self, where: str, plan: "Plan") -> None:
        """Raise SeedbedError where a reference is undefined or things do not fit together."""
        if self.init:
            self.check_init(where, plan)

    def check_init(self, where: str, plan: "Plan") -> "Run":
        """The run that this one starts from; raises SeedbedError where it cannot."""
        refer(f"{where}.init.run", self.init.run, plan.runs, "run")
        origin, step, wanted = plan.runs[self.init.run], self.init.step, self.starts_from or self.subject
        if origin.subject != wanted:
            raise SeedbedError(
                f"config: {where}.init: {self.init.run!r} is of kind {origin.subject!r}; expected {wanted!r}"
            )
        if step is None:
            return origin
        steps = origin.step_count()
        if steps is None:
            raise SeedbedError(
                f"config: {where}.init.step: the steps of {self.init.run!r} are not known; "
                f"expected a budget in {origin.unit(dump(origin)).name}"
            )
        if step > steps:
            raise SeedbedError(f"config: {where}.init.step: {self.init.run!r} has {steps} steps; found {step}")
        return origin

    def spec(self) -> dict:
        """The identity of the run."""
        return self.identity(dump(self))

    @classmethod
    def identity(cls, run: dict) -> dict:
        """The spec of a dumped run: all of it but the names of inputs."""
        return without(run, *cls.naming) | {"init": run["init"] and without(run["init"], "run")}

    @classmethod
    def unit(cls, spec: dict) -> Unit:
        """The unit that budgets, batches and tables of a run with this spec count in."""
        raise NotImplementedError

    @classmethod
    def speed_key(cls, spec: dict) -> dict | None:
        """What the speed of a run depends on; None where that is not in the spec."""
        return without(spec, *UNRELATED_TO_SPEED)

    def facts(self, plan: "Plan") -> Facts:
        """What a dry run shows of the run."""
        return Facts()

    def step_count(self, epoch: int | None = None) -> int | None:
        """Optimizer steps, given the units of an epoch; None for a budget in epochs whose size is not known yet."""
        run = dump(self)
        return self.unit(run).steps(run["budget"], epoch)


LONGEST = 2**30  # tokens of a sequence
UNRELATED_TO_SPEED = ("budget", "optimizer", "schedule", "clip", "spikes", "init", "seed", "validation", "log_every")


class TokenRun(Run):
    """A run of a causal LM over tokens: what language models and in-context autoencoders have in common."""

    starts_from = "causal-lm"
    naming = ("tokenizer",)

    tokenizer: Name
    model: ModelOrName
    seq_len: Annotated[Positive, Field(le=LONGEST)]
    budget: TokenBudget
    batch_tokens: AutoCount
    validation: TokenValidation = TokenValidation()

    @property
    def tokens(self) -> str:
        """The directory of the tokens that the run reads, below the results."""
        raise NotImplementedError

    def inputs(self) -> dict[str, str]:
        return {"tokens": f"{self.tokens}/index.json", "tokenizer": f"tokenizers/{self.tokenizer}/tokenizer.json"}

    def with_models(self, where: str, models: dict[str, Any]) -> "Run":
        """Replace the name of a new model by its value; the name of an external one stays."""
        if not isinstance(self.model, str):
            return self
        refer(f"{where}.model", self.model, models, "model")
        found = models[self.model]
        return self if isinstance(found, ExternalModel) else self.model_copy(update={"model": found})

    @classmethod
    def identity(cls, run: dict) -> dict:
        """The spec; an external model is an input, and its checksum is in the identity."""
        return super().identity(run) | ({"model": None} if isinstance(run["model"], str) else {})

    @classmethod
    def unit(cls, spec: dict) -> Unit:
        return Unit("tokens", spec["batch_tokens"], spec["seq_len"])

    @classmethod
    def speed_key(cls, spec: dict) -> dict | None:
        return without(super().speed_key(spec), "batch_tokens") if spec["model"] else None

    def check(self, where: str, plan: "Plan") -> None:
        refer(f"{where}.tokenizer", self.tokenizer, plan.tokenizers, "tokenizer")
        super().check(where, plan)
        if self.budget.tokens and self.budget.tokens < self.batch_tokens:
            raise SeedbedError(
                f"config: {where}.budget.tokens: {self.budget.tokens} is less than a batch of "
                f"{self.batch_tokens} tokens"
            )

    def check_init(self, where: str, plan: "Plan") -> "Run":
        origin = super().check_init(where, plan)
        for key in ("model", "tokenizer"):
            if getattr(self, key) != getattr(origin, key, None):
                raise SeedbedError(f"config: {where}.init: {self.init.run!r} has a different {key}; expected the same")
        return origin

    @model_validator(mode="after")
    def batch_is_whole_sequences(self) -> "TokenRun":
        if self.batch_tokens == "auto":
            return self
        below = self.batch_tokens // self.seq_len * self.seq_len
        if self.batch_tokens != below:
            near = [n for n in (below, below + self.seq_len) if n]
            raise ValueError(
                f"batch_tokens {self.batch_tokens} does not divide into sequences of seq_len {self.seq_len}; "
                f"nearest that do: {' or '.join(map(str, near))}"
            )
        return self
