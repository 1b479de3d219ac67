"""The whole configuration; `load` reads it from a file and reports a mistake in one line.

The JSON schema under `workflow/schemas/` is generated from these classes.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Union

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from seedbed.config.fields import Name, Strict
from seedbed.config.messages import check_text, validated
from seedbed.config.study import Study
from seedbed.config.yaml_file import read_yaml
from seedbed.data.config import ContextSource, Corpus, Tokenizer
from seedbed.errors import choices, shown
from seedbed.evaluate import EVALUATIONS
from seedbed.models.config import Model
from seedbed.objectives import OBJECTIVES

DEFAULT_OBJECTIVE = "lm"
LONGEST_PATH, LONGEST_PART = 1000, 255  # bytes: what file systems allow, with room for what is below


def objective_of(run: Any) -> Any:
    """The objective of a run, given as a mapping or as a run."""
    return run.get("objective", DEFAULT_OBJECTIVE) if isinstance(run, dict) else getattr(run, "objective", None)


def known_objective(run: Any) -> Any:
    if isinstance(run, dict) and (found := objective_of(run)) not in list(OBJECTIVES):  # it may be unhashable
        raise ValueError(f"objective: found {shown(found)}{choices(found, OBJECTIVES)}")
    return run


AnyRun = Annotated[
    Union[tuple(Annotated[kind, Tag(f"<{name}>")] for name, kind in OBJECTIVES.items())],  # noqa: UP007
    Discriminator(lambda run: f"<{objective_of(run) or DEFAULT_OBJECTIVE}>"),
    BeforeValidator(known_objective),
]
Evaluation = Annotated[Union[tuple(EVALUATIONS.values())], Field(discriminator="kind")]  # noqa: UP007


def plain_path(path: str) -> str:
    """Accept a directory that needs no quoting in rules and shell commands."""
    if not re.fullmatch(r"[\w./+=,@-]+", path) or path.startswith("-"):
        raise ValueError("expected a directory with letters, digits and ./_+=,@- only")
    if len(path.encode()) > LONGEST_PATH or max(len(part.encode()) for part in path.split("/")) > LONGEST_PART:
        raise ValueError(f"expected a directory of at most {LONGEST_PATH} bytes, {LONGEST_PART} between slashes")
    return path


class Config(Strict):
    """The whole configuration of a workflow."""

    results: Annotated[str, AfterValidator(plain_path)] = "results"
    # Snakemake files with custom rules, relative to the working directory
    custom_rules: list[str] = []
    corpora: dict[Name, Corpus] = {}
    tokenizers: dict[Name, Tokenizer] = {}
    contexts: dict[Name, ContextSource] = {}
    models: dict[Name, Model] = {}
    runs: dict[Name, AnyRun] = {}
    evaluations: dict[Name, Evaluation] = {}
    studies: dict[Name, Study] = {}


def load(path: Path | str) -> Config:
    """Read and check a configuration file.

    Raises SeedbedError with one line when the file is missing, is not YAML, has a key twice or is not a valid
    configuration.
    """
    return check(read_yaml(path))


def check(raw: dict) -> Config:
    """Validate a configuration that is already a mapping, as Snakemake passes it."""
    check_text(raw, "config", [])
    return validated(Config, raw, "config")
