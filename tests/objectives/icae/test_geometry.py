"""What a geometry says of itself against the batches that are laid out by it."""

from itertools import product

import numpy as np
import pytest

from seedbed.objectives.icae import layouts
from seedbed.objectives.icae.batch import Sample, batch_of
from seedbed.objectives.icae.geometry import AE, LM, Geometry
from seedbed.objectives.icae.layouts import LAYOUTS


def geometry(layout: str = "default", **changes: object) -> Geometry:
    facts = {"memory_tokens": 4, "rate": 3, "add_special_token_for_lm": True, "leave_tokens_for_lm": 0}
    return Geometry.of({"layout": layout} | facts | changes)


def highest(geometry: Geometry, length: int, continuation: int) -> float:
    """The largest position in batches of both tasks."""
    context = np.arange(length)
    samples = [Sample(AE, context, np.arange(length + 1)), Sample(LM, context, np.arange(continuation))]
    batches = [batch_of(geometry, [sample]) for sample in samples]
    return max(float(row.max()) for batch in batches for row in (batch.encoder_positions, batch.decoder_positions))


def test_a_shape_takes_what_it_needs_of_a_spec() -> None:
    facts = {"memory_tokens": 4, "rate": 3, "layout": "spread", "leave_tokens_for_lm": 8}
    assert Geometry.of(facts | {"add_special_token_for_lm": False, "seed": 1}) == Geometry(4, 3, "spread", False, 8)


def test_the_table_has_memory_and_a_token_for_each_task() -> None:
    assert geometry().table_size == 6
    assert geometry(add_special_token_for_lm=False).table_size == 5


def test_a_segment_has_as_many_tokens_as_its_memory_stands_for() -> None:
    assert geometry().parts(12) == [range(12)]
    assert geometry().parts(25) == [range(8), range(8, 16), range(16, 25)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("memory_tokens", "rate"), [(4, 3), (4, 1), (3, 4), (1, 8)])
def test_the_highest_position_is_the_highest_of_the_batches(layout: str, memory_tokens: int, rate: int) -> None:
    made = geometry(layout, memory_tokens=memory_tokens, rate=rate)
    for length, continuation in product((4, 7, 12, 13, 40), (1, 8, 50)):
        assert made.highest_position(length, continuation) == highest(made, length, continuation)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_continues_nothing_needs_no_position_for_it(layout: str) -> None:
    for length in (4, 13, 40):
        assert geometry(layout).highest_position(length, 0) == geometry(layout).highest_position(length, 1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_shorter_contexts_need_no_higher_position(layout: str) -> None:
    ends = [geometry(layout).highest_position(length, 8) for length in range(4, 60)]
    assert ends == sorted(ends)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_highest_position_is_enough_without_a_token_for_continuations(layout: str) -> None:
    made = geometry(layout, add_special_token_for_lm=False)
    for length, continuation in product((4, 13, 40), (2, 8, 50)):
        assert made.highest_position(length, continuation) >= highest(made, length, continuation)


@pytest.mark.parametrize(
    ("layout", "length", "continuation", "needed"),
    [("default", 24, 8, 8 + 24 + 1), ("default", 24, 40, 8 + 40), ("spread", 24, 8, 24 + 8), ("spread", 24, 1, 24 + 1)],
)
def test_a_base_with_too_few_learned_positions_is_told(
    layout: str, length: int, continuation: int, needed: int
) -> None:
    made = geometry(layout)
    assert made.misfit("gpt2", length, continuation, needed) is None
    assert made.misfit("gpt2", length, continuation, None) is None
    assert made.misfit("gpt2", length, continuation, needed - 1) == (
        f"layout {layout} needs {needed} positions for a context of {length} and a continuation of {continuation} "
        f"tokens; the base has learned {needed - 1}"
    )


@pytest.mark.parametrize("learned", [None, 1, 10**6])
def test_learned_positions_have_nothing_between_them(learned: int | None) -> None:
    told = geometry("uniform").misfit("gpt2", 24, 8, learned)
    assert told == (
        "layout uniform puts memory between whole positions, which needs rotary ones; gpt2 has learned positions; "
        "nearest layout: uniform-int"
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_highest_position_writes_no_positions_out(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written, real = [], layouts.memory_positions

    def watched(*inputs: object, **options: int) -> list[float]:
        written.extend(found := real(*inputs, **options))
        return found

    monkeypatch.setattr(layouts, "memory_positions", watched)
    monkeypatch.setattr(layouts, "segments", lambda *_: pytest.fail("segments are written out"))
    made = geometry(layout, memory_tokens=10**5, rate=1)
    assert made.highest_position(10**18, 8) >= 10**18
    assert len(written) <= 1
