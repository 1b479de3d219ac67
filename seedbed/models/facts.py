"""What a plan has to know of models: their sizes, and what can be done with them. Nothing here loads torch."""

from dataclasses import dataclass

from seedbed.errors import SeedbedError

MOST_LAYERS = 500  # of a model that is to be looked at


class Misfit(SeedbedError):
    """No model can be made of these fields; `key` is the one at fault, if it is one."""

    def __init__(self, key: str | None, problem: str) -> None:
        super().__init__(f"model{f'.{key}' if key else ''}: {problem}")
        self.key, self.problem = key, problem


@dataclass(frozen=True)
class Facts:
    """Sizes of a model, and what can be done with it."""

    # weights without embeddings, output head and table of positions; those of each token, of each learned position
    blocks: int
    per_token: int
    per_position: int
    layers: int
    width: int
    # whether positions are learned (or tabulated), and how many its fields say
    learned: bool
    positions: int | None
    # why seedbed.models.recurrence can give it no memory, if so
    no_recurrence: str | None
    # names of its linear layers without the output head and without their layers' numbers
    linear: list[str]

    def parameters(self, vocabulary: int, positions: int) -> int:
        """Number of weights with a vocabulary, and a table of `positions` where its fields do not say how many."""
        return self.blocks + vocabulary * self.per_token + (self.positions or positions) * self.per_position


def without_numbers(name: str) -> str:
    """The name of a module, the same in all layers."""
    return ".".join(part for part in name.split(".") if not part.isdigit())
