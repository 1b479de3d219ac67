"""What a user may write of a run: model, data, budget, optimizer, schedule, and what else makes it that run."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from seedbed.architectures import Architecture
from seedbed.fields import Beta, Count, Name, Number, Positive, Rate, Share, Strict

ModelOrName = Annotated[
    Annotated[Name, Tag("<name>")] | Annotated[Architecture, Tag("<inline>")],
    Discriminator(lambda value: "<name>" if isinstance(value, str) else "<inline>"),
]


class Budget(Strict):
    """How much a run trains: exactly one of tokens, steps or epochs."""

    tokens: Positive | None = None
    steps: Positive | None = None
    epochs: Rate | None = None

    @model_validator(mode="after")
    def exactly_one(self) -> "Budget":
        if sum(value is not None for value in (self.tokens, self.steps, self.epochs)) != 1:
            raise ValueError("expected exactly one of tokens, steps, epochs")
        return self

    def step_count(self, batch_tokens: int, epoch_tokens: int | None = None) -> int | None:
        """Optimizer steps, at least one; None for epochs of a corpus that is not counted yet."""
        if self.steps:
            return self.steps
        if self.epochs and epoch_tokens is None:
            return None
        return max(1, round((self.tokens or self.epochs * epoch_tokens) / batch_tokens))


def or_auto(number: Any) -> Any:
    """A number, or the word auto."""
    return Annotated[
        Annotated[Literal["auto"], Tag("<auto>")] | Annotated[number, Tag("<number>")],
        Discriminator(lambda value: "<auto>" if value == "auto" else "<number>"),
    ]


AutoRate = or_auto(Rate)
AutoCount = or_auto(Positive)


class Optimizer(Strict):
    """`lr: auto` is the DeepSeek-LLM formula (seedbed.scaling); decay is for the matrices inside the blocks."""

    name: str
    lr: AutoRate = 1e-3
    weight_decay: Annotated[Number, Field(ge=0)] = 0.1
    # also on norms, biases and embeddings
    decay_all: bool = False


class Adam(Optimizer):
    """adamw: decoupled decay (arXiv 1711.05101); adam: coupled; adamw8bit: 8-bit moments (arXiv 2110.02861)."""

    name: Literal["adamw", "adam", "adamw8bit"] = "adamw"
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    eps: Rate = 1e-8


class Adafactor(Optimizer):
    """Second moments as row and column means (arXiv 1804.04235)."""

    name: Literal["adafactor"]


class Muon(Optimizer):
    """Orthogonalised momentum for the matrices inside the blocks, AdamW with betas and eps for the rest."""

    name: Literal["muon"]
    momentum: Beta = 0.95
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    eps: Rate = 1e-8


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
    """Loss on the first `tokens` of the validation split, every `every` steps and after the last one."""

    every: Positive = 100
    tokens: Positive = 65536


class Init(Strict):
    """Start from the weights that another run had after `step` updates, or ended with."""

    run: Name
    step: Positive | None = None
    # go on with its optimizer state, too
    optimizer: bool = False

    @model_validator(mode="after")
    def state_has_a_step(self) -> "Init":
        if self.optimizer and self.step is None:
            raise ValueError("the optimizer state of a finished run is not kept: expected a step, too")
        return self


class Recurrence(Strict):
    """Segments of `work_size` tokens that attend to `cache_size` cached keys and values (arXiv 1901.02860).

    Gradients cross `stop_gradient_step` segments.
    """

    work_size: Positive
    cache_size: Count
    stop_gradient_step: Positive = 1


class Spikes(Strict):
    """A loss over `factor` times a running quantile, or not finite, goes back to the last checkpoint and skips on.

    The quantile is over the last `window` steps, and nothing is a spike before there are as many. Steps are undone up
    to the last multiple of `every` before the spike, and the batches read since then are left out.
    """

    window: Positive = 128
    quantile: Share = 0.9
    factor: Annotated[Number, Field(gt=1)] = 1.5
    every: Positive = 100
    max_rollbacks: Count = 3


class Run(Strict):
    """What all runs have, whatever they learn."""

    objective: str
    tokenizer: Name
    model: ModelOrName
    seq_len: Positive
    budget: Budget
    batch_tokens: AutoCount
    optimizer: AnyOptimizer = Adam()
    schedule: Schedule = Cosine(kind="cosine", warmup_ratio=0.05)
    clip: Rate | None = 1.0
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    spikes: Spikes | None = None
    seed: Count = 0
    validation: Validation = Validation()
    log_every: Positive = 10

    @model_validator(mode="after")
    def batch_is_whole_sequences(self) -> "Run":
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


class LanguageModelRun(Run):
    """Predict the next token of packed windows."""

    objective: Literal["lm"] = "lm"
    corpus: Name
    # shuffle: windows in a random order; order: each row of a batch reads on where it stopped in the batch before
    data: Literal["shuffle", "order"] = "shuffle"
    attention: Literal["auto", "sdpa", "flash_attention_2", "flex_attention", "eager"] = "auto"
    recurrence: Recurrence | None = None
    init: Init | None = None

    def parameters(self, vocab_size: int) -> int:
        """Number of weights."""
        return self.model.parameters(vocab_size, self.seq_len)

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


def divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]
