"""Messages are one line that a terminal can show."""

import pickle

from seedbed.errors import LONGEST, SeedbedError, choices, shown


def test_a_message_is_one_line_of_printable_characters():
    message = str(SeedbedError("corpus a\nb\x1b[31m: found \ud800 and 中文\u202e"))
    assert message == "corpus a\\nb\\x1b[31m: found \\ud800 and 中文\\u202e"


def test_a_long_message_keeps_its_beginning_and_its_end():
    message = str(SeedbedError(f"config: title: {'x' * 10**6}; expected a shorter one"))
    assert len(message) == LONGEST
    assert message.startswith("config: title: xxx")
    assert message.endswith("xxx; expected a shorter one")


def test_a_message_survives_the_way_between_processes():
    error = SeedbedError("a\tb" + "x" * 1000)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_quoted_value_is_cut():
    assert shown("short") == "'short'"
    assert len(shown(list(range(10**5)))) == 100


def test_a_hint_lists_few_names():
    assert choices("q", [f"name-{number}" for number in range(100)]).endswith("name-11, ...")
    assert choices("nmae-50", [f"name-{number}" for number in range(100)]) == "; did you mean 'name-50'?"
    assert choices("q", []) == "; none is defined"
