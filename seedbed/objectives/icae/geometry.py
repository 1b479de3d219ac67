"""What the layout of an ICAE's samples depends on, as plain numbers."""

from dataclasses import dataclass, fields

from seedbed.objectives.icae import layouts

AE, LM = "ae", "lm"  # tasks: reconstruct the context, or continue it


@dataclass(frozen=True)
class Geometry:
    """What the layout of samples depends on: an ICAE's memory, its layout and its special tokens."""

    memory_tokens: int
    rate: int
    layout: str
    add_special_token_for_lm: bool
    leave_tokens_for_lm: int

    @classmethod
    def of(cls, facts: dict) -> "Geometry":
        """From a run's spec, or the `icae.json` of its export."""
        return cls(**{field.name: facts[field.name] for field in fields(cls)})

    @property
    def table_size(self) -> int:
        """Rows of the embedding table: the memory tokens, AE, and LM if there is one."""
        return self.memory_tokens + 1 + self.add_special_token_for_lm

    def parts(self, length: int) -> list[range]:
        """Segments of a context of `length` tokens."""
        return layouts.segments(length, self.memory_tokens * self.rate)

    def highest_position(self, length: int, continuation: int) -> float:
        """The largest position that a context of `length` tokens and its continuation need, in encoder or decoder."""
        size, count = self.memory_tokens, layouts.segment_count(length, self.memory_tokens * self.rate)
        if self.layout == "default":
            longest, answer = -(-length // count), count * size
            return max(longest + size - 1, answer + max(length, continuation - 1))
        last = range(length * (count - 1) // count, length)
        (highest,) = layouts.memory_positions(self.layout, len(last), size, self.rate, first=size - 1)
        # A reconstruction begins at 0 and predicts EOS as well; there may be no continuation.
        return max(last.start + highest, length + max(0, continuation - 1))

    def misfit(self, model_type: str, length: int, continuation: int, learned: int | None) -> str | None:
        """Why a base with `learned` positions (None: any number) cannot read such contexts; None if it can."""
        if self.layout == "uniform":
            return (
                f"layout uniform puts memory between whole positions, which needs rotary ones; {model_type} has "
                "learned positions; nearest layout: uniform-int"
            )
        needed = self.highest_position(length, continuation) + 1
        if learned is None or needed <= learned:
            return None
        return (
            f"layout {self.layout} needs {needed} positions for a context of {length} and a continuation of "
            f"{continuation} tokens; the base has learned {learned}"
        )
