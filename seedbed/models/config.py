"""What a user may write of a model: one to be trained, by a family's own field names, or one from elsewhere."""

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from seedbed.config.fields import Name, Strict, by_key
from seedbed.models.architectures import Architecture


class ExternalModel(Strict):
    """A causal language model of transformers from the hub or a directory, used as it is."""

    from_: Annotated[str, Field(alias="from", min_length=1)]
    revision: str | None = None


Model = Annotated[
    Annotated[Architecture, Tag("<family>")] | Annotated[ExternalModel, Tag("<from>")], by_key("family", "from")
]
ModelOrName = Annotated[
    Annotated[Name, Tag("<name>")] | Annotated[Architecture, Tag("<inline>")],
    Discriminator(lambda value: "<name>" if isinstance(value, str) else "<inline>"),
]
