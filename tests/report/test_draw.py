from pathlib import Path

import numpy as np
import pytest
from example_study import LOSS, counting_samples, draw_plots, example_study

from seedbed.report.axes import colours
from seedbed.report.draw import draw, smoothed, write_svg

PLOTS = [LOSS, {"kind": "loss", "x": "seconds", "smooth": 2, "log": True}]


def test_the_loss_plot_shows_the_logged_values(tmp_path: Path) -> None:
    axes = draw(example_study(tmp_path), LOSS).axes[0]
    first = axes.lines[0]
    assert list(first.get_xdata()) == [10, 20, 30, 40]
    assert list(first.get_ydata()) == pytest.approx([6.0, 5.5, 5 + 1 / 3, 5.0])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("training tokens", "loss (nats per token)")


def test_the_loss_plot_is_by_what_each_run_counts(tmp_path: Path) -> None:
    axes = draw(counting_samples(example_study(tmp_path), "a"), LOSS).axes[0]
    assert [list(line.get_xdata()) for line in axes.lines[:3:2]] == [[1, 2, 3, 4], [10, 20, 30, 40]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("training samples or tokens", "loss")


def test_plots_are_named_by_what_they_show_and_are_the_same_each_time(tmp_path: Path) -> None:
    study = example_study(tmp_path, plots=PLOTS)
    folder = draw_plots(study)
    assert sorted(path.stem for path in folder.glob("*.svg")) == ["loss-by-seconds-smooth-2-log", "loss-by-tokens"]
    assert not any("qwen" in path.read_text() for path in folder.glob("*.svg"))
    write_svg(draw(study, LOSS), tmp_path / "again" / "loss-by-tokens.svg")
    assert (tmp_path / "again" / "loss-by-tokens.svg").read_text() == (folder / "loss-by-tokens.svg").read_text()


def test_labels_with_dollar_signs_are_no_formulas(tmp_path: Path) -> None:
    study = example_study(tmp_path)
    study.labels["a"] = r"a$\b$"
    write_svg(draw(study, LOSS), tmp_path / "plot.svg")
    assert r"a$\b$" in (tmp_path / "plot.svg").read_text()


def test_smoothing_is_a_running_mean() -> None:
    assert smoothed([1, 2, 3, 4], 1).tolist() == [1, 2, 3, 4]
    assert smoothed([1, 2, 3, 4], 2).tolist() == [1, 1.5, 2.5, 3.5]
    assert np.allclose(smoothed([1, 2, 3], 10), [1, 1.5, 2])


def test_runs_that_differ_in_their_seed_alone_share_a_colour(tmp_path: Path) -> None:
    values = [("a", "small", "0"), ("b", "small", "1"), ("c", "large", "0")]
    variants = [{"run": run, "values": {"size": size, "seed": seed}} for run, size, seed in values]
    found = colours(example_study(tmp_path, variants=variants))
    assert found["a"] == found["b"] != found["c"]
    assert len({found["c"], found["a"], found["qwen"]}) == 3
