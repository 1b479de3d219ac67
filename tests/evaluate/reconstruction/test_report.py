from collections.abc import Callable
from pathlib import Path

import pytest
from example_study import RUNS, example_study, measure_as, page_of, table_of
from support import change_metrics, of_type

from seedbed.evaluate.reconstruction.result import Result
from seedbed.report.draw import draw
from seedbed.report.results import StudyResults

SHOWN = {
    "original": [{"text": "今天<b>", "same": True}, {"text": "记\n者", "same": False}, {"text": "报", "same": True}],
    "written": [{"text": "今天<b>", "same": True}, {"text": "<i>\n好", "same": False}, {"text": "报", "same": True}],
}
CURVES = [{"kind": "reconstruction", "evaluation": "measured"}, {"kind": "compression", "evaluation": "measured"}]


def setting(accuracy: float = 0.5, **changes: object) -> dict:
    """One setting of a reconstruction."""
    sides = {"memory": 1.25, "none": 6.5, "other": 7.25}
    found = {"text": "held-out", "length": 32, "rate": 4, "samples": 96, "vectors": 8, "ratio": 4.0}
    found["ae"] = {view: {"loss": loss, "accuracy": accuracy} for view, loss in sides.items()}
    found["lm"] = {
        view: {"loss": loss, "accuracy": 0.125} for view, loss in {"memory": 3.5, "full": 3.375, "none": 4.0}.items()
    }
    worth = {"mean": 5.25, "interval": [4.875, 5.5], "p": 0.0001}
    found["gain"] = {"none": worth, "other": {"mean": 6.0, "interval": [5.75, 6.25], "p": 0.0001}}
    found["gain"]["continuation"] = {"mean": 0.5, "interval": [0.375, 0.625], "p": 0.1}
    return found | {"generated": 32, "bleu": 0.625, "exact": 0.25, "shown": [SHOWN]} | changes


def reconstruction(*settings: dict, **changes: object) -> dict:
    facts = {"memory_tokens": 8, "rate": 4, "layout": "spread", "decoder": "shared", "lora": None, "seq_len": 32}
    facts |= {"lm_ratio": 0.5, "continuation": 16, "leave_tokens_for_lm": 4}
    return facts | changes | {"settings": list(settings)}


def without_lm(one: dict) -> dict:
    nothing = {view: {"loss": None, "accuracy": None} for view in one["lm"]}
    return one | {"lm": nothing, "gain": one["gain"] | {"continuation": None}}


@pytest.fixture
def icae(tmp_path: Path) -> Callable[..., StudyResults]:
    """Two runs of in-context autoencoders, with a result each."""
    study = example_study(tmp_path, "reconstruction", plots=CURVES, models=[])
    for run, accuracy in zip(RUNS, (0.25, 0.75), strict=True):
        first, *lines, last = study.metrics(run)
        first |= {"valid_loss": 9.0, "valid_accuracy": 0.0}
        change_metrics(study.results / "runs" / run, [first, *lines, last | {"valid_accuracy": accuracy}])

    def made(*results: dict) -> StudyResults:
        for run, result in zip(RUNS, results, strict=True):
            measure_as(study.results, run, "reconstruction", of_type(result, Result))
        return study

    return made


def lines_of(axes, dotted: bool = False) -> list[tuple[list[float], list[float]]]:
    """What is drawn in a panel besides the legend, dotted or not."""
    lines = [line for line in axes.lines if len(line.get_xdata()) and (line.get_linestyle() == ":") == dotted]
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in lines]


def test_the_reconstruction_plot_shows_both_curves_and_the_loss_without_memory(icae: Callable) -> None:
    losses = {"memory": 1.0, "none": 7.0, "other": 8.0}
    other = setting(ae={view: {"loss": loss, "accuracy": 0.5} for view, loss in losses.items()})
    study = icae(reconstruction(setting()), reconstruction(other))
    losses, accuracies = draw(study, CURVES[0]).axes
    assert lines_of(losses) == [([1, 4], [9.0, 5.0]), ([1, 4], [9.0, 4.0])]
    assert lines_of(accuracies) == [([1, 4], [0.0, 0.25]), ([1, 4], [0.0, 0.75])]
    assert [y for _, y in lines_of(losses, dotted=True)] == [[6.5, 6.5], [7.0, 7.0]]
    assert not lines_of(accuracies, dotted=True)
    colours = [line.get_color() for line in losses.lines[:4]]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert losses.get_yscale() == "log"


def test_the_loss_without_memory_is_that_of_the_setting_as_trained(icae: Callable) -> None:
    def of(loss: float, **changes: object) -> dict:
        return setting(ae={view: {"loss": loss, "accuracy": 0.5} for view in ("memory", "none", "other")}, **changes)

    others = [of(1.0, text="random"), of(2.0, length=16), of(3.0, length=64), of(4.0, rate=2), of(5.0, rate=8)]
    study = icae(reconstruction(*others, of(6.0)), reconstruction(of(6.0), *others))
    losses, _ = draw(study, CURVES[0]).axes
    assert [y[0] for _, y in lines_of(losses, dotted=True)] == [6.0, 6.0]
    study = icae(*[reconstruction(of(1.0, text="random", length=16), of(2.0, text="random"))] * 2)
    assert [y[0] for _, y in lines_of(draw(study, CURVES[0]).axes[0], dotted=True)] == [2.0, 2.0]


def test_the_compression_plot_is_by_length_in_a_panel_for_each_text(icae: Callable) -> None:
    def result(more: float) -> dict:
        lengths = {64: 0.25, 16: 0.5, 32: 0.375}
        texts = {"held-out": more, "random": 0.0}
        return reconstruction(
            *(
                setting(accuracy + plus, text=text, length=length)
                for text, plus in texts.items()
                for length, accuracy in lengths.items()
            )
        )

    held_out, random = draw(icae(result(0.125), result(0.5)), CURVES[1]).axes
    x = [16, 32, 64]
    assert lines_of(held_out) == [(x, [0.625, 0.5, 0.375]), (x, [1.0, 0.875, 0.75])]
    assert lines_of(random) == [(x, [0.5, 0.375, 0.25])] * 2
    assert (held_out.get_title(), random.get_title()) == ("held-out text", "random ids")
    for axes in (held_out, random):
        assert axes.get_xlabel() == "context (tokens)"
        assert [x for x, _ in lines_of(axes, dotted=True)] == [[32, 32]]


def test_the_compression_plot_is_by_rate_where_there_is_one_length(icae: Callable) -> None:
    result = reconstruction(*(setting(accuracy, rate=rate) for rate, accuracy in ((8, 0.25), (2, 0.75), (4, 0.5))))
    (axes,) = draw(icae(result, result), CURVES[1]).axes
    assert lines_of(axes) == [([2, 4, 8], [0.75, 0.5, 0.25])] * 2
    assert axes.get_xlabel() == "tokens per memory vector"
    assert [x for x, _ in lines_of(axes, dotted=True)] == [[4, 4]]


def test_by_length_the_rate_is_that_of_the_training(icae: Callable) -> None:
    grid = ((16, 2, 0.125), (16, 4, 0.25), (64, 2, 0.375), (64, 4, 0.5))
    result = reconstruction(*(setting(accuracy, length=length, rate=rate) for length, rate, accuracy in grid))
    (axes,) = draw(icae(result, result), CURVES[1]).axes
    assert lines_of(axes) == [([16, 64], [0.25, 0.5])] * 2


@pytest.mark.parametrize(("key", "trained", "values"), [("length", "seq_len", (16, 64)), ("rate", "rate", (4, 8))])
def test_the_compression_plot_shows_each_run_as_it_was_trained(
    icae: Callable, key: str, trained: str, values: tuple[int, int]
) -> None:
    study = icae(*(reconstruction(setting(**{key: value}), **{trained: value}) for value in values))
    (axes,) = draw(study, CURVES[1]).axes
    assert lines_of(axes) == [([value], [0.5]) for value in values]
    assert [x[0] for x, _ in lines_of(axes, dotted=True)] == list(values)
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == ["lr 1", "lr <x>", "as trained"]


def test_the_table_has_columns_for_each_setting_of_a_reconstruction(icae: Callable) -> None:
    settings = setting(), without_lm(setting(text="random", length=64, bleu=None, exact=None))
    table = table_of(icae(reconstruction(*settings), reconstruction(*settings)))
    expected = {
        "bleu": 0.625, "exact": 0.25, "ratio": 4.0, "ae_loss.memory": 1.25, "ae_loss.none": 6.5, "ae_loss.other": 7.25,
        "lm_loss.memory": 3.5, "lm_loss.full": 3.375, "lm_loss.none": 4.0, "ae_accuracy.memory": 0.5,
        "ae_accuracy.none": 0.5, "ae_accuracy.other": 0.5, "gain": 5.25, "low": 4.875, "high": 5.5,
    }  # fmt: skip
    columns = [f"measured.{one}.{key}" for one in ("held-out-32-rate-4", "random-64-rate-4") for key in expected]
    assert [column for column in table if column.startswith("measured.")] == columns
    for key, value in expected.items():
        assert list(table[f"measured.held-out-32-rate-4.{key}"]) == [value] * 2
    for key in ("bleu", "exact", "lm_loss.memory"):
        assert table[f"measured.random-64-rate-4.{key}"].isna().all()
    assert list(table["measured.random-64-rate-4.gain"]) == [5.25] * 2


def test_the_page_shows_what_memory_holds(icae: Callable) -> None:
    page = page_of(icae(reconstruction(setting()), reconstruction(setting(0.75))))
    own = "<td>held out</td><td>32 → 8</td><td>1.250</td><td>{}</td><td>0.625</td><td>25.0%</td><td>6.500</td>"
    worth = "<td>7.250</td><td>5.25 (4.88 to 5.50)</td></tr>"
    assert f"<td>lr 1</td>{own.format('50.0%')}{worth}" in page
    assert f"<td>lr &lt;x&gt;</td>{own.format('75.0%')}{worth}" in page
    assert page.count("<figure>") == page.count("<svg") == 2
    assert "dotted is the loss at the end when the decoder sees no memory" in page
    assert "How much of a context comes back right from its memory" in page


def test_what_was_not_written_has_a_dash(icae: Callable) -> None:
    page = page_of(icae(*[reconstruction(setting(bleu=None, exact=None, shown=[]))] * 2))
    assert page.count("<td>50.0%</td><td>–</td><td>–</td><td>6.500</td>") == 2
    assert ">original</td>" not in page


def test_the_page_marks_what_differs_and_escapes_it(icae: Callable) -> None:
    page = page_of(icae(*[reconstruction(setting())] * 2))
    assert "<b>" not in page and "<i>" not in page
    assert page.count(">今天&lt;b&gt;记↵者报</td>") == 1
    assert page.count(">今天&lt;b&gt;<mark>&lt;i&gt;↵好</mark>报</td>") == 2
    assert "<h3>Held out, 32 tokens from 8 vectors</h3>" in page


def test_the_page_marks_what_is_missing(icae: Callable) -> None:
    lost = {
        "original": [{"text": "今天", "same": True}, {"text": '记"<b>', "same": False}],
        "written": [{"text": "今天", "same": True}, {"text": "", "same": False}],
    }
    page = page_of(icae(*[reconstruction(setting(shown=[lost]))] * 2))
    assert page.count('>今天<mark class="gap" title="missing: 记&#34;&lt;b&gt;">‸</mark></td>') == 2
    assert "<b>" not in page


def test_runs_that_read_other_contexts_show_their_own(icae: Callable) -> None:
    longer = {part: [{"text": "今天记者报道", "same": True}] for part in ("original", "written")}
    study = icae(
        reconstruction(setting(shown=[SHOWN, SHOWN])),
        reconstruction(setting(length=64, vectors=16, shown=[longer]), seq_len=64),
    )
    page = page_of(study)
    assert "<h3>Held out, 32 or 64 tokens from 8 or 16 vectors</h3>" in page
    assert page.count(">original</td>") == 3
    assert page.count(">今天&lt;b&gt;记↵者报</td>") == 2
    assert page.count(">今天记者报道</td>") == 2


def test_continuations_are_shown_where_they_were_trained(icae: Callable) -> None:
    never = reconstruction(without_lm(setting()), lm_ratio=0)
    assert "continuing the context" not in page_of(icae(never, never))
    unmeasured = setting()
    unmeasured["lm"]["full"] = {"loss": None, "accuracy": None}
    page = page_of(icae(reconstruction(setting()), reconstruction(unmeasured)))
    assert "first 4 of 16 tokens left out" in page
    row = "<td>held out</td><td>32 → 8</td><td>3.500</td><td>{}</td><td>4.000</td><td>0.500 (0.375 to 0.625)</td></tr>"
    assert f"<tr><td>lr 1</td>{row.format('3.375')}" in page
    assert f"<tr><td>lr &lt;x&gt;</td>{row.format('–')}" in page
    page = page_of(icae(never, reconstruction(setting(), leave_tokens_for_lm=0)))
    assert f"<tr><td>lr &lt;x&gt;</td>{row.format('3.375')}" in page
    assert f"<tr><td>lr 1</td>{row[:50]}" not in page


def test_the_first_token_of_a_continuation_is_always_left_out(icae: Callable) -> None:
    page = page_of(icae(*[reconstruction(setting(), leave_tokens_for_lm=0)] * 2))
    assert "first 1 of 16 tokens left out" in page
