"""Positions of memory by hand: the published examples, and what holds for any length."""

from math import ceil

import pytest

from seedbed.objectives.icae.layouts import (
    LAYOUTS,
    decoder_positions,
    encoder_positions,
    first_decoded,
    memory_positions,
    segments,
)

PAPER = {"size": 128, "rate": 4}
OVER_CONTEXT = ("uniform", "uniform-int", "spread")  # those that lay memory over its context


# --- memory of one segment --------------------------------------------------------------------------------------------


def test_appended_memory_follows_its_context() -> None:
    assert memory_positions("default", 300, **PAPER) == list(range(300, 428))


@pytest.mark.parametrize("length", [512, 300, 64])
def test_uniform_memory_lies_in_the_middle_of_its_tokens_whatever_the_length(length: int) -> None:
    assert memory_positions("uniform", length, **PAPER) == [2.5 + 4 * i for i in range(128)]
    assert memory_positions("uniform-int", length, **PAPER) == list(range(2, 511, 4))
    assert memory_positions("uniform", length, 3, 3) == memory_positions("uniform-int", length, 3, 3) == [2, 5, 8]
    assert memory_positions("uniform", length, 3, 8) == [4.5, 12.5, 20.5]
    assert memory_positions("uniform-int", length, 3, 8) == [4, 12, 20]
    assert memory_positions("uniform", length, 3, 1) == [1, 2, 3]


def test_spread_memory_follows_the_length() -> None:
    assert memory_positions("spread", 512, **PAPER) == list(range(2, 511, 4))
    shorter = memory_positions("spread", 300, **PAPER)
    assert shorter[:5] == [2, 4, 6, 9, 11] and shorter[-1] == 299
    assert memory_positions("spread", 64, **PAPER) == [1 + i // 2 for i in range(128)]
    assert memory_positions("spread", 128, **PAPER) == list(range(1, 129))


def test_halves_are_rounded_to_the_even_number() -> None:
    # 2.5, 6.5, 10.5, 14.5, and 3.5, 9.5, 15.5
    assert memory_positions("spread", 16, 4, 4) == [2, 6, 10, 14]
    assert memory_positions("spread", 18, 3, 6) == [4, 10, 16]


@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 40])
def test_spread_memory_is_in_order_and_within_its_context(length: int, size: int) -> None:
    found = memory_positions("spread", length, size, 4)
    assert found == sorted(found) and 1 <= found[0] and found[-1] <= length
    # Both ends are equally far from the memory next to them, but for rounding.
    assert abs((found[0] - 0.5) - (length + 0.5 - found[-1])) <= 1
    if length >= size:
        assert len(set(found)) == size


@pytest.mark.parametrize("layout", ["uniform", "uniform-int"])
def test_spread_is_uniform_for_the_context_that_the_rate_means(layout: str) -> None:
    for rate in (1, 3, 5):  # an odd one needs no rounding
        assert memory_positions("spread", 8 * rate, 8, rate) == memory_positions(layout, 8 * rate, 8, rate)


def test_an_unknown_layout_is_none() -> None:
    with pytest.raises(ValueError, match="speared"):
        memory_positions("speared", 512, **PAPER)


# --- segments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 2, 7, 12])
@pytest.mark.parametrize("length", [1, 6, 7, 8, 13, 14, 15, 50])
def test_segments_cover_a_context_in_the_fewest_equal_parts(length: int, most: int) -> None:
    found = segments(length, most)
    assert [place for part in found for place in part] == list(range(length))
    assert len(found) == ceil(length / most)
    sizes = {len(part) for part in found}
    assert max(sizes) <= most and max(sizes) - min(sizes) <= 1


def test_a_context_that_fits_is_one_segment() -> None:
    assert segments(512, 512) == [range(512)]
    assert segments(513, 512) == [range(256), range(256, 513)]


# --- encoder and decoder ----------------------------------------------------------------------------------------------


def test_the_appending_encoder_reads_every_segment_from_0() -> None:
    for segment in (range(3), range(3, 6), range(100, 103)):
        assert encoder_positions("default", segment, 2, 4) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("layout", OVER_CONTEXT)
def test_other_encoders_count_from_1_through_all_segments(layout: str) -> None:
    first, second = segments(14, 8)
    memory = {"uniform": [2.5, 6.5], "uniform-int": [2, 6], "spread": [2, 6]}[layout]
    assert encoder_positions(layout, first, 2, 4) == [1, 2, 3, 4, 5, 6, 7, *memory]
    assert encoder_positions(layout, second, 2, 4) == [8, 9, 10, 11, 12, 13, 14, *(7 + place for place in memory)]


def test_the_appending_decoder_counts_memory_through_all_segments() -> None:
    assert decoder_positions("default", segments(14, 8), 2, 4) == [0, 1, 2, 3]


@pytest.mark.parametrize("layout", OVER_CONTEXT)
@pytest.mark.parametrize("length", [7, 14, 17, 40])
def test_other_decoders_see_memory_where_the_encoder_put_it(layout: str, length: int) -> None:
    parts = segments(length, 8)
    placed = [position for part in parts for position in encoder_positions(layout, part, 2, 4)[len(part) :]]
    assert decoder_positions(layout, parts, 2, 4) == placed


def test_spread_follows_the_length_of_each_segment() -> None:
    parts = segments(21, 11)
    assert [len(part) for part in parts] == [10, 11]
    # c = 10/3: 2.17, 5.5, 8.83; c = 11/3: 2.33, 6, 9.67, after 10
    assert decoder_positions("spread", parts, 3, 4) == [2, 6, 9, 12, 16, 20]


def test_after_appended_memory_both_tasks_begin() -> None:
    for reconstructing in (True, False):
        assert first_decoded("default", segments(512, 512), 128, reconstructing) == 128
        assert first_decoded("default", segments(1100, 512), 128, reconstructing) == 3 * 128


@pytest.mark.parametrize("layout", OVER_CONTEXT)
@pytest.mark.parametrize("length", [300, 512, 1100])
def test_elsewhere_reconstruction_begins_at_0_and_a_continuation_after_the_context(layout: str, length: int) -> None:
    assert first_decoded(layout, segments(length, 512), 128, reconstructing=True) == 0
    assert first_decoded(layout, segments(length, 512), 128, reconstructing=False) == length


def test_there_are_the_four_layouts() -> None:
    assert set(LAYOUTS) == {"default", *OVER_CONTEXT}
