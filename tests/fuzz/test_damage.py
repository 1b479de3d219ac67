"""No damaged file changes what comes out of it without a word."""

from collections.abc import Iterator

import pytest
from fuzz.damage import Place, examples
from fuzz.readers import READERS
from fuzz.search import QUIET
from hypothesis import given, settings


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("seedbed.files.flush", lambda path: None)  # nothing here has to outlive a crash
        yield (made := Place(tmp_path_factory.mktemp("chain")))
        made.check_original()


def test_what_is_not_damaged_is_read_by_all(place: Place) -> None:
    for reader in READERS.values():
        assert place.read_by(reader), reader.name
        found, known = place.undamaged(reader)
        assert found and known, reader.name


def test_a_damaged_file_is_refused_in_a_line_that_names_it_or_changes_nothing(place: Place) -> None:
    @settings(max_examples=300, derandomize=True, print_blob=False, **QUIET)
    @given(examples(place))
    def every(example: tuple[str, str, str, int]) -> None:
        place.holds(*example)

    every()
