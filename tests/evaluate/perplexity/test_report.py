from math import exp
from pathlib import Path

import pytest
from example_study import draw_plots, example_study, page_of, table_of
from support import of_type

from seedbed.evaluate.perplexity.report import exponential
from seedbed.evaluate.perplexity.result import Result
from seedbed.report.draw import draw
from seedbed.report.results import StudyResults

PLOT = {"kind": "perplexity", "evaluation": "measured"}


def of_words(loss: float | None, words_from: str | None) -> dict:
    """A result of one split, with words or without."""
    scores = {"perplexity": 20.0, "loss": 3.0, "unigram_loss": 4.0, "bits_per_byte": 1.5, "tokens": 999, "documents": 9}
    words = {"words": loss and 99, "words_from": words_from, "word_loss": loss, "word_perplexity": loss and exp(loss)}
    return of_type({"window": 32, "stride": 16, "splits": {"test": scores | words}}, Result)


@pytest.fixture
def study(tmp_path: Path) -> StudyResults:
    return example_study(tmp_path, "perplexity", of_words(7.0, "published"), plots=[PLOT])


def test_the_page_has_words_where_they_are_counted(study: StudyResults) -> None:
    page = page_of(study)
    assert "by the word count that the dataset was published with" in page
    assert page.count("<td>1,096.6*</td>") == 3
    assert page.index("<h2>Perplexity") < page.index("<h2>Plots</h2>")
    assert list(table_of(study)["measured.test.word_loss"]) == [7.0] * 3


def test_nothing_is_told_of_words_where_there_are_none(tmp_path: Path) -> None:
    study = example_study(tmp_path, "perplexity", of_words(None, None))
    page, table = page_of(study), table_of(study)
    assert "word" not in page
    assert page.count("<td>1.500</td><td>999</td>") == 3
    assert "measured.test.word_loss" not in table and list(table["measured.test.bits_per_byte"]) == [1.5] * 3


def test_the_plot_shows_runs_and_models(study: StudyResults) -> None:
    (axes,) = draw(study, PLOT).axes
    assert [float(x) for x, _ in axes.collections[0].get_offsets()] == [1.5] * 3
    assert axes.get_xlabel() == "bits per byte"
    assert "qwen" in (draw_plots(study) / "perplexity-measured.svg").read_text(encoding="utf-8")


def test_large_powers_are_said_as_powers() -> None:
    assert [exponential(value) for value in (None, 0.0, 463.2)] == ["–", "1.0", "e^463"]
