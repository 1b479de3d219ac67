from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from example_study import RUNS, counting_samples, draw_plots, example_study, measure_as, page_of, table_of
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from support import change_metrics, of_type

from seedbed.evaluate.task_accuracy.config import TaskAccuracy
from seedbed.evaluate.task_accuracy.result import Result
from seedbed.report.draw import draw
from seedbed.report.results import StudyResults

GRID, LENGTH, STEPS, TRAINING = ({"kind": kind, "evaluation": "measured"} for kind in TaskAccuracy.plots)


def right(token: float, exact: float) -> dict:
    return {
        name: {"mean": mean, "interval": [mean - 0.125, mean + 0.125]}
        for name, mean in (("token", token), ("exact", exact))
    }


def setting(length: int, n_latent: int | None, n_step: int, token: float, trained: bool = True) -> dict:
    named = {"length": length, "n_latent": n_latent, "n_step": n_step, "samples": 1024}
    return named | right(token, token / 2) | {"trained": trained}


def grid(n_latent: int = 2) -> list[dict]:
    """Of lengths 4 and 9 with 1 to `n_latent` latents and 1, 2 or 4 steps: half is right at 9, and more with more."""
    return [
        setting(length, latent, step, start + latent / 8 + step / 32, latent == 2 and step > 1)
        for length, start in ((4, 0.5), (9, 0.25))
        for latent in range(1, n_latent + 1)
        for step in (1, 2, 4)
    ]


def accuracy(**changes: object) -> dict:
    """A result; that of a run of length 8, which was not measured itself."""
    part = {"seconds": 0.002, "share": 0.25}
    found = {
        "task": "flip",
        "length": 8,
        "decoding": "parallel",
        "parameters": 12345,
        "trained": {
            "length": {"first": 1, "last": 8},
            "n_latent": {"first": 2, "last": 2},
            "n_step": {"first": 2, "last": 4},
        },
        "settings": grid(),
        "claim": [setting(4, 2, 4, 0.75) | {"shared": 0.0}, setting(9, 2, 4, 0.5, trained=False) | {"shared": 0.0}],
        "by_iteration": [{"n_step": step} | right(step / 4, step / 8) for step in (1, 2, 3)],
        "training": {
            "reach": 0.9375,
            "reached": {"step": 1200, "samples": 153600, "seconds": 75.0},
            "valid_accuracy": 0.96875,
            "valid_exact": 0.875,
            "seconds": 150.0,
        },
        "times": {
            "batches": 5,
            "samples": 128,
            "data": part,
            "forward": part,
            "backward": {"seconds": 0.004, "share": 0.5},
        },
    }
    return of_type(found | changes, Result)


@pytest.fixture
def thinkers(tmp_path: Path) -> Callable[..., StudyResults]:
    """Two runs of Thinkers, with a result each."""
    study = example_study(tmp_path, "task-accuracy", plots=[GRID, LENGTH, STEPS, TRAINING], models=[])
    for run, accuracy in zip(RUNS, (0.25, 0.75), strict=True):
        first, *lines, last = study.metrics(run)
        lines = [first | {"valid_accuracy": 0.125}, *lines, last | {"valid_accuracy": accuracy}]
        change_metrics(study.results / "runs" / run, lines)
    counting_samples(study, *RUNS)

    def made(*results: dict) -> StudyResults:
        for run, result in zip(RUNS, results, strict=True):
            measure_as(study.results, run, "task-accuracy", result)
        return study

    return made


def lines_of(axes: Axes, style: str) -> list[tuple[list[float], list[float]]]:
    """What is drawn in a panel in a style besides the legend."""
    lines = [line for line in axes.lines if len(line.get_xdata()) and line.get_linestyle() == style]
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in lines]


def spans_of(axes: Axes) -> list[tuple[float, float]]:
    """From where to where a panel is shaded."""
    return [(part.get_x(), part.get_x() + part.get_width()) for part in axes.patches if isinstance(part, Rectangle)]


def values_of(axes: Axes) -> list[list[float]]:
    return axes.images[0].get_array().tolist()


# --- plots -----------------------------------------------------------------------------------------------------------


def test_the_grid_shows_the_length_that_is_nearest_to_the_runs(thinkers: Callable) -> None:
    other = accuracy(length=4, settings=grid(1))
    first, second, _ = draw(thinkers(accuracy(), other), GRID).axes
    assert values_of(first) == [[0.40625, 0.4375, 0.5], [0.53125, 0.5625, 0.625]]
    assert values_of(second) == [[0.65625, 0.6875, 0.75]]
    assert (first.get_title(), second.get_title()) == ("lr 1", "lr <x>")
    assert [label.get_text() for label in first.get_xticklabels()] == ["1", "2", "4"]
    assert [label.get_text() for label in first.get_yticklabels()] == ["1", "2"]
    assert first.images[0].get_clim() == second.images[0].get_clim() == (0, 1)
    assert first.images[0].origin == "lower"  # more latents are above


def test_the_grid_frames_what_was_trained(thinkers: Callable) -> None:
    first, second, _ = draw(thinkers(accuracy(), accuracy(settings=grid(1))), GRID).axes
    framed = {(part.get_xy(), part.get_width(), part.get_height()) for part in first.patches}
    assert framed == {((0.5, 0.5), 2, 1)}
    assert {part.get_edgecolor()[:3] for part in first.patches} == {(0, 0, 0), (1, 1, 1)}
    assert not second.patches


def test_numbers_are_written_in_black_or_white_where_cells_have_room(thinkers: Callable) -> None:
    few = accuracy(settings=[setting(8, 1, step, token) for step, token in ((1, 0.0), (2, 1.0))])
    many = accuracy(settings=[setting(8, n, step, 0.5) for n in range(1, 8) for step in range(1, 10)])
    first, second, _ = draw(thinkers(few, many), GRID).axes
    written = [(text.get_position(), text.get_text(), text.get_color()) for text in first.texts]
    assert written == [((0, 0), "0", "white"), ((1, 0), "100", "black")]
    assert not second.texts
    assert [label.get_text() for label in second.get_xticklabels()] == ["1", "3", "5", "7", "9"]


def test_latents_of_positions_are_one_row(thinkers: Callable) -> None:
    own = accuracy(settings=[setting(8, None, step, 0.5) for step in (1, 2)])
    axes = draw(thinkers(own, own), GRID).axes[0]
    assert values_of(axes) == [[0.5, 0.5]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["per\nposition"]


@pytest.mark.parametrize(("runs", "shape"), [(1, (1, 1)), (4, (1, 4)), (5, (2, 4)), (18, (5, 4))])
def test_there_is_a_panel_for_each_run(thinkers: Callable, runs: int, shape: tuple[int, int]) -> None:
    study = thinkers(accuracy(), accuracy())
    study.spec["variants"] = study.spec["variants"][:1] * runs
    study.spec["variants"] = [{"run": f"r{number}", "values": {"run": f"r{number}"}} for number in range(runs)]
    for number in range(runs):
        measure_as(study.results, f"r{number}", "task-accuracy", accuracy())
    *panels, bar = draw(study, GRID).axes
    assert panels[0].get_subplotspec().get_gridspec().get_geometry() == shape
    shown = [axes for axes in panels if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == [f"r{number}" for number in range(runs)]
    assert bar.get_ylabel() == "token accuracy"


def test_accuracy_by_length_is_at_the_setting_of_the_claims(thinkers: Callable) -> None:
    longer = accuracy()["trained"] | {"length": {"first": 9, "last": 9}}
    (axes,) = draw(thinkers(accuracy(), accuracy(trained=longer)), LENGTH).axes
    assert lines_of(axes, "-") == [([4, 9], [0.375, 0.25])] * 2
    assert lines_of(axes, "--") == [([4, 9], [0.75, 0.5])] * 2
    edges = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (edges.min(), edges.max()) == (0.125, 0.5)
    assert spans_of(axes) == [(0.5, 8.5), (8.5, 9.5)]
    assert axes.get_xlabel() == "length"


def test_accuracy_by_step_is_of_the_runs_whose_steps_answer(thinkers: Callable) -> None:
    (axes,) = draw(thinkers(accuracy(by_iteration=None), accuracy()), STEPS).axes
    assert lines_of(axes, "-") == [([1, 2, 3], [0.125, 0.25, 0.375])]
    assert lines_of(axes, "--") == [([1, 2, 3], [0.25, 0.5, 0.75])]
    assert spans_of(axes) == [(1.5, 4.5)]
    legend = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert legend == ["lr <x>", "trained", "exact match", "token accuracy"]
    (axes,) = draw(thinkers(*[accuracy(by_iteration=None)] * 2), STEPS).axes
    assert not lines_of(axes, "-") and not spans_of(axes)


def test_accuracy_while_training_is_by_seconds_and_by_samples(thinkers: Callable) -> None:
    seconds, samples = draw(thinkers(accuracy(), accuracy()), TRAINING).axes
    assert lines_of(seconds, "-") == [([0.5, 2], [0.125, 0.25]), ([0.5, 2], [0.125, 0.75])]
    assert lines_of(samples, "-") == [([1, 4], [0.125, 0.25]), ([1, 4], [0.125, 0.75])]
    for axes in (seconds, samples):
        assert [y for _, y in lines_of(axes, ":")] == [[0.9375, 0.9375]]
    assert "93.75%" in [text.get_text() for text in seconds.figure.legends[0].get_texts()]


def test_runs_of_one_colour_have_different_marks(thinkers: Callable) -> None:
    study = thinkers(accuracy(), accuracy())
    study.spec["variants"] = [{"run": f"r{number}", "values": {"run": f"r{number}"}} for number in range(13)]
    for number in range(13):
        measure_as(study.results, f"r{number}", "task-accuracy", accuracy())
    (axes,) = draw(study, LENGTH).axes
    lines = [line for line in axes.lines if line.get_label().startswith("r")]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 13


def test_a_legend_of_long_names_or_many_has_room(thinkers: Callable) -> None:
    study = thinkers(accuracy(), accuracy())
    for length, count in ((5, 2), (30, 2), (60, 14)):
        names = [f"{number:0{length}}" for number in range(count)]
        study = StudyResults(study.spec | {"variants": [{"run": name, "values": {}} for name in names]}, study.results)
        for name in names:
            measure_as(study.results, name, "task-accuracy", accuracy())
        figure = draw(study, LENGTH)
        figure.canvas.draw()
        box, panel = figure.legends[0].get_window_extent(), figure.axes[0].get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0
        assert panel.height > 2.2 * figure.dpi


def test_plots_follow_the_page(thinkers: Callable) -> None:
    assert len(list(draw_plots(thinkers(accuracy(), accuracy())).glob("*.svg"))) == 4


# --- table and page --------------------------------------------------------------------------------------------------


def test_the_table_has_columns_for_each_length_of_the_claims(thinkers: Callable) -> None:
    never = accuracy()["training"] | {"reached": None}
    table = table_of(thinkers(accuracy(), accuracy(training=never, times=None)))
    expected = {
        "accuracy.4": 0.75, "accuracy_low.4": 0.625, "accuracy_high.4": 0.875,
        "exact.4": 0.375, "exact_low.4": 0.25, "exact_high.4": 0.5,
        "accuracy.9": 0.5, "accuracy_low.9": 0.375, "accuracy_high.9": 0.625,
        "exact.9": 0.25, "exact_low.9": 0.125, "exact_high.9": 0.375,
    }  # fmt: skip
    for key, value in expected.items():
        assert list(table[f"measured.{key}"]) == [value] * 2
    for key, value in {"reached_seconds": 75.0, "data_share": 0.25}.items():
        assert np.array_equal(table[f"measured.{key}"].astype(float), [value, np.nan], equal_nan=True)


def test_the_page_shows_the_claims_with_their_setting(thinkers: Callable) -> None:
    fixed = accuracy()["trained"] | {"length": {"first": 8, "last": 8}}
    own = [setting(4, None, 4, 0.75) | {"shared": 0.0}]
    page = page_of(thinkers(accuracy(), accuracy(trained=fixed, claim=own, parameters=5)))
    row = (
        "<td>lr 1</td><td>12,345</td><td>1 to 8</td><td>9</td><td>2</td><td>4</td>"
        '<td>50.0% <span class="soft">37.5–62.5</span></td><td>25.0% <span class="soft">12.5–37.5</span></td>'
        "<td>yes</td>"
    )
    assert row in page
    assert "<td>lr 1</td><td>12,345</td><td>1 to 8</td><td>4</td>" in page
    assert "<td>lr &lt;x&gt;</td><td>5</td><td>8</td><td>4</td><td>per position</td><td>4</td>" in page
    assert page.count("<td>no</td>") == 2 and page.count("<td>yes</td>") == 1
    assert "(task flip)" in page and "training could have" not in page
    assert page.count("<figure>") == page.count("<svg") == 4


def test_the_page_marks_lengths_whose_sequences_training_may_have_had(thinkers: Callable) -> None:
    short = [setting(4, 2, 4, 0.75) | {"shared": 0.625}, setting(9, 2, 4, 0.5) | {"shared": 0.0}]
    page = page_of(thinkers(accuracy(), accuracy(claim=short)))
    assert "* Up to 62.5% of these problems" in page
    assert page.count("<td>*4</td>") == page.count("<td>4</td><td>2</td><td>4</td>") == 1
    assert page.count("<td>9</td>") == 2


def test_the_page_says_what_training_took(thinkers: Callable) -> None:
    never = accuracy()["training"] | {"reached": None}
    page = page_of(thinkers(accuracy(), accuracy(training=never, times=None)))
    assert "first had a token accuracy of 93.8%" in page
    end = "<td>2 min 30 s</td><td>96.9%</td><td>87.5%</td>"
    part = '<td>2.0 <span class="soft">25.0%</span></td>'
    assert (
        f"<td>lr 1</td><td>1,200</td><td>150Ki</td><td>1 min 15 s</td>{end}<td>128</td>{part}{part}"
        '<td>4.0 <span class="soft">50.0%</span></td>'
    ) in page
    assert f"<td>lr &lt;x&gt;</td><td>–</td><td>–</td><td>never</td>{end}{'<td>–</td>' * 4}" in page
