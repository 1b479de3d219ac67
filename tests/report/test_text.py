from seedbed.report.text import big, duration, number, paragraphs, percent


def test_numbers_are_said_as_people_say_them() -> None:
    assert [duration(s) for s in (3, 75, 7300)] == ["3 s", "1 min 15 s", "2 h 1 min"]
    assert [number(v) for v in (None, float("nan"), 1234.567, 1e9)] == ["–", "–", "1,234.57", "1.0e+09"]
    assert (percent(0.1234), big(65536), big(1234567)) == ("12.3%", "64Ki", "1,234,567")
    assert paragraphs("a\nb\n\n\n\nc\n") == ["a\nb", "c"]
