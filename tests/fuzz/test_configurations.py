"""No configuration near a valid one ends in a traceback, fills the memory or hangs."""

import os
import traceback
from pathlib import Path

from forks import FORKS
from fuzz.configurations import EXAMPLES, holds, limit_memory
from fuzz.search import QUIET
from hypothesis import given, settings

MOST = 300  # seconds of a process that takes a few


def try_examples(folder: Path, errors: Path) -> None:
    os.chdir(folder)
    limit_memory()

    @settings(max_examples=500, derandomize=True, print_blob=False, **QUIET)
    @given(EXAMPLES)
    def every(example: object) -> None:
        holds(example)

    try:
        every()
    except BaseException:
        errors.write_text(traceback.format_exc())
        raise


def test_a_configuration_is_planned_or_refused_in_a_line_that_names_a_key(tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    process = FORKS.Process(target=try_examples, args=(tmp_path, errors))
    process.start()
    process.join(MOST)
    hangs = process.exitcode is None
    process.kill()
    assert not hangs, "it hangs"
    assert process.exitcode == 0, errors.read_text() if errors.exists() else "it was killed"
