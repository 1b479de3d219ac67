import pytest

from seedbed.config.fields import format_count, parse_count


@pytest.mark.parametrize(
    ("written", "meant"),
    [(7, 7), ("64Ki", 65536), ("64k", 64000), ("1.5M", 1_500_000), ("1e6", 10**6), (2.0, 2), ("3 Gi", 3 * 2**30)],
)
def test_counts_are_read(written: object, meant: int) -> None:
    assert parse_count(written) == meant


@pytest.mark.parametrize("written", [True, None, "many", "1.5", 2.5, "-1", "64kb", [], "0.3Ki"])
def test_what_is_no_count_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="whole number"):
        parse_count(written)


@pytest.mark.parametrize("value", [0, 1, 999, 1000, 1024, 65536, 64000, 1536, 10**6, 2**20, 123457])
def test_the_short_spelling_is_read_back(value: int) -> None:
    assert parse_count(format_count(value)) == value
