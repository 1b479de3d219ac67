"""Tables of what happens at each step."""

from dataclasses import astuple

import pytest

from seedbed.objectives.thinker.flow import Row, always, drawn, misfit, plain, planned, read_once_answer_last


def table(rows: list[Row]) -> list[tuple[int, ...]]:
    """Columns read_input, mem_lookup, mem_write, static_mem_lookup, output."""
    return [tuple(map(int, astuple(row))) for row in rows]


@pytest.mark.parametrize("static", [0, 1])
def test_named_plans_are_the_tables_that_their_names_say(static: int) -> None:
    assert table(always(3, bool(static))) == [(1, 1, 1, static, 1)] * 3
    assert table(read_once_answer_last(4, bool(static))) == [
        (1, 0, 1, static, 0),
        (0, 1, 1, static, 0),
        (0, 1, 1, static, 0),
        (0, 1, 0, static, 1),
    ]
    assert table(read_once_answer_last(2, bool(static))) == [(1, 0, 1, static, 0), (0, 1, 0, static, 1)]
    assert table(read_once_answer_last(1, bool(static))) == [(1, 0, 1, static, 1)]
    assert table(plain(3, static=bool(static))) == [(1, 1, 1, static, 0)] * 2 + [(1, 1, 1, static, 1)]
    assert table(plain(3, 1, every=True, static=bool(static))) == [(1, 1, 1, static, 1)] + [(0, 1, 1, static, 1)] * 2


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("n_step", [1, 2, 5, 12])
def test_random_plans_can_always_be_followed(n_step: int, static: bool) -> None:
    plans = [drawn(n_step, seed, static) for seed in range(200)]
    for seed, rows in enumerate(plans):
        assert len(rows) == n_step and rows[-1].output
        assert misfit(rows, static) is None
        assert rows == drawn(n_step, seed, static)
    if n_step > 1:
        assert len({tuple(table(rows)) for rows in plans}) > min(100, 2 ** (n_step - 1))
        for column in ("read_input", "mem_lookup", "mem_write", "output"):
            assert {getattr(row, column) for rows in plans for row in rows} == {False, True}
    assert any(row.static_mem_lookup for rows in plans for row in rows) == static


def test_a_plan_is_made_from_its_name_or_its_rows() -> None:
    def made(flow: object, every: bool = False, seed: int = 7) -> list[Row]:
        return planned(flow, 3, seed, True, 2, every)

    assert made(None) == plain(3, 2, static=True)
    assert made(None, every=True) == plain(3, 2, every=True, static=True)
    assert made("always") == always(3, True)
    assert made("read-once-answer-last") == read_once_answer_last(3, True)
    assert made("random") == drawn(3, 7, True) != made("random", seed=8)
    assert made([{"read_input": True, "output": True}]) == [Row(read_input=True, output=True)]


READ, WORK, ANSWER = Row(read_input=True, mem_write=True), Row(mem_lookup=True, mem_write=True), Row(True, output=True)


@pytest.mark.parametrize(
    ("rows", "static", "told"),
    [
        ([READ, WORK], False, "never outputs; expected a row with output 1"),
        ([Row(static_mem_lookup=True, output=True)], True, "never reads the input before it outputs"),
        ([Row(static_mem_lookup=True, output=True), READ], True, "never reads the input before it outputs"),
        ([WORK, READ, ANSWER], False, "row 1 sees nothing"),
        ([Row(read_input=True), WORK, ANSWER], False, "row 2 sees nothing"),
        ([READ, Row(output=True)], False, "row 2 sees nothing"),
        ([Row(read_input=True, static_mem_lookup=True, output=True)], False, "static_mem_lookup without static memory"),
        ([READ, WORK, ANSWER], False, None),
        ([Row(static_mem_lookup=True, mem_write=True), WORK, ANSWER], True, None),
    ],
)
def test_a_table_that_cannot_be_followed_is_told(rows: list[Row], static: bool, told: str | None) -> None:
    found = misfit(rows, static)
    assert (found is None) if told is None else (found is not None and told in found), found
