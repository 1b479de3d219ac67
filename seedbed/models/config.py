"""What a user may write of a model: one to be trained, by a family's own field names, or one from elsewhere."""

import math
from typing import Annotated, Any

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from seedbed.config.fields import LARGEST_COUNT, Name, Strict, by_key, dump, parse_count
from seedbed.models.facts import Facts
from seedbed.models.lookup import facts_of

DEEPEST = 20  # levels of mappings and lists in a model


def plain(value: Any, levels: int = DEEPEST) -> Any:
    """A value of a config field, with numbers where a configuration has them as text: 64k, 1e-6.

    Raises ValueError for numbers that JSON or a model cannot have, and below that many levels of mappings and lists.
    """
    if isinstance(value, dict | list) and not levels:
        raise ValueError(f"expected at most {DEEPEST} levels of mappings and lists")
    if isinstance(value, dict):
        return {str(key): plain(inner, levels - 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner, levels - 1) for inner in value]
    if isinstance(value, str) and value[:1] in "+-.0123456789":
        for read in (parse_count, float):
            try:
                return read(value)
            except ValueError:
                continue
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"expected finite numbers, found {value}")
    if isinstance(value, int) and abs(value) > LARGEST_COUNT:
        raise ValueError(f"expected numbers up to {LARGEST_COUNT}")
    return value


class NewModel(Strict):
    """An untrained causal LM of transformers: a model type, and fields of its config class by their own names.

    Which families and fields there are is for the installed transformers to say (`facts`), which nothing here loads.
    """

    model_config = ConfigDict(extra="allow")

    family: Annotated[str, Field(min_length=1)]
    # keys of unit length and the attention scale 1 (seedbed.models.keynorm)
    key_norm: bool = False

    @model_validator(mode="before")
    @classmethod
    def known_keys(cls, value: Any) -> Any:
        return plain(value)

    @property
    def facts(self) -> Facts:
        """Sizes and abilities of the model; raises `facts.Misfit` where none can be made of these fields."""
        return facts_of(dump(self))


class ExternalModel(Strict):
    """A causal language model of transformers from the hub or a directory, used as it is."""

    from_: Annotated[str, Field(alias="from", min_length=1)]
    revision: str | None = None


Model = Annotated[
    Annotated[NewModel, Tag("<family>")] | Annotated[ExternalModel, Tag("<from>")], by_key("family", "from")
]
ModelOrName = Annotated[
    Annotated[Name, Tag("<name>")] | Annotated[NewModel, Tag("<inline>")],
    Discriminator(lambda value: "<name>" if isinstance(value, str) else "<inline>"),
]
