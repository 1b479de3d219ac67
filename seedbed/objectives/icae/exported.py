"""What describes an exported ICAE: the file `icae.json` in its directory."""

from typing import Literal

from seedbed.records import Record

ICAE = "icae.json"


class Base(Record):
    """Where the base model was, from the ICAE's directory, and the checksums of its weights and config by file."""

    path: str
    sha256: dict[str, str]


class LoraFacts(Record):
    r: int
    alpha: float
    dropout: float
    targets: str | list[str]


class Kept(Record):
    """The directory or adapter with the weights of each part; None for those of the base."""

    encoder: str | None
    decoder: str | None


class Exported(Record):
    """Its geometry (`seedbed.objectives.icae.geometry`), and what it was trained with."""

    base: Base | None
    kept: Kept
    memory_tokens: int
    rate: int
    layout: Literal["default", "uniform", "uniform-int", "spread"]
    add_special_token_for_lm: bool
    leave_tokens_for_lm: int
    lora: LoraFacts | None
    decoder: Literal["frozen", "trained", "shared"]
    seq_len: int
    lm_ratio: float
    continuation: int
