import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seedbed.files import read_json, read_jsonl, write_json, write_text
from seedbed.report.draw import INK, draw, plot_name, smoothed, write_svg
from seedbed.report.pages import big, duration, exponential, milestones_page, number, paragraphs, percent, study_page
from seedbed.report.results import StudyResults
from seedbed.report.table import study_table

RUNS = {"a": 5.0, "a+optimizer.lr=<x>": 4.0}
PLOTS = [
    {"kind": "loss", "x": "tokens", "smooth": 1, "log": False},
    {"kind": "loss", "x": "seconds", "smooth": 2, "log": True},
    {"kind": "perplexity", "evaluation": "ppl"},
    {"kind": "forgetting", "evaluation": "memory"},
    {"kind": "receptive-field", "evaluation": "memory"},
    {"kind": "history", "evaluation": "worth"},
    {"kind": "cmmlu", "evaluation": "quiz"},
]


def distribution(mean: float) -> dict:
    return {"mean": mean, "sd": 0.1, "interval": [mean - 0.05, mean + 0.05]}


@pytest.fixture
def study(tmp_path: Path) -> StudyResults:
    """Two runs with results as the other stages write them."""
    for run, loss in RUNS.items():
        folder = tmp_path / "runs" / run
        lines = [
            f'{{"step": {s}, "tokens": {s * 10}, "seconds": {s / 2}, "loss": {loss + 1 / s}}}\n' for s in (1, 2, 3)
        ]
        lines.append(f'{{"step": 4, "tokens": 40, "seconds": 2, "loss": {loss}, "valid_loss": {loss}}}\n')
        write_text(folder / "metrics.jsonl", "".join(lines))
        costs = {
            "parameters": 1234,
            "steps": 4,
            "tokens": 40,
            "own_tokens": 40,
            "spikes": [],
            "tokens_per_second": 20.0,
            "seconds": 75.0,
            "device_hours": 0.5,
        }
        write_json(
            folder / "summary.json", {**costs, "loss": loss, "valid_loss": loss, "peak_memory_bytes": {"host": 2**30}}
        )
        execution = {"processes": 2, "micro_batch": 1, "accumulation": 1, "zero_stage": 0}
        facts = {
            "identity": "f" * 64,
            "execution": execution,
            "precision": "fp32",
            "git": None,
            "machine": {"processor": "x"},
        }
        write_json(
            folder / "run.json", {**facts, "software": {"torch": "1"}, "inputs": {"tokens": "e" * 64}, "spec": {"s": 1}}
        )
    for subject in (*RUNS, "qwen"):
        for name, result in RESULTS.items():
            write_json(tmp_path / "evaluations" / subject / f"{name}.json", result)
    variants = [
        {"run": "a", "values": {"optimizer.lr": "1"}},
        {"run": "a+optimizer.lr=<x>", "values": {"optimizer.lr": "<x>"}},
    ]
    spec = {"name": "s", "date": "2026-01-02", "title": "Lernrate", "notes": ""}
    lists = {"variants": variants, "models": ["qwen"], "trunks": [], "evaluations": EVALUATIONS, "plots": PLOTS}
    return StudyResults({**spec, **lists}, tmp_path)


EVALUATIONS = {"ppl": "perplexity", "memory": "forgetting", "worth": "history", "quiz": "cmmlu", "said": "samples"}


def perplexity() -> dict:
    scores = {"perplexity": 20.0, "loss": 3.0, "unigram_loss": 4.0, "bits_per_byte": 1.5, "word_loss": 7.0}
    return {"window": 32, "stride": 16, "splits": {"test": {**scores, "words_from": "published", "tokens": 999}}}


def forgetting() -> dict:
    def point(length: int, copy: float, zone: str) -> dict:
        measured = {"copy": distribution(copy), "lm": distribution(0.2), "gain": distribution(copy - 0.2)}
        return {"length": length, "distance": length + 1, "measurable": True, **measured, "p": 0.01, "zone": zone}

    points = [point(4, 0.995, "fine"), point(8, 0.5, "coarse"), {"length": 99, "distance": 100, "measurable": False}]
    curve = {"points": points, "zones": {"fine": 4, "coarse": 8, "effective": 9}}
    reach = {"trained_length": 32, "window": 24, "theoretical": 48}
    begin = {"id": 2, "token": "<eos>", "is": "eos"}
    return {"begin": begin, "task": "copy", "shots": 2, "reach": reach, "curves": {"order": curve, "random": curve}}


def history() -> dict:
    sides = {"with": {"loss": 3.25, "accuracy": 0.5}, "without": {"loss": 4.0, "accuracy": 0.25}}
    gain = {"loss": 0.75, "interval": [0.5, 1.0], "p": 0.0001, "accuracy": 0.25, "accuracy_interval": [0.1, 0.4]}
    positions = [{"from": first, "to": end, **sides, "gain": gain} for first, end in ((0, 1), (1, 2), (2, 4))]
    return {"length": 4, "history": 28, "pieces": 8, "overall": {**sides, "gain": gain}, "positions": positions}


def quiz() -> dict:
    summary = {"questions": 60, "micro": 0.5, "interval": [0.3, 0.7], "macro": 0.55, "macro_interval": [0.4, 0.6]}
    counts = {"shots_dropped": 3, "prompts_without_all_shots": 2, "prompts_cut": 0}
    groups = {"categories": {"STEM": summary}, "subjects": {"anatomy": {"questions": 60, "accuracy": 0.5}}}
    scores = {
        **summary,
        **counts,
        **groups,
        "margin": 0.1,
        "answered": {"A": 0.75, "B": 0.25, "C": 0, "D": 0},
        "not_in_training": summary | {"micro": 0.475},
    }
    note = {"rule": "20 characters", "asked": 60, "contaminated": 7, "too_short": 1}
    facts = {
        "convention": "cmmlu",
        "demonstration": True,
        "missing_subjects": [],
        "questions": 60,
        "chance": 0.25,
        "baselines": {"always_A": 0.25, "longest_option": 0.3},
    }
    return {**facts, "contamination": note, "shots": {"0": scores, "5": scores}}


def samples() -> dict:
    figures = {"repetition": 0.875, "distinct_1": 0.5, "distinct_2": 0.5, "distinct_3": None}
    sample = {"prompt": "今天<script>", "continuation": "好&坏\n\n", **figures}
    return {"settings": [{"label": label, "samples": [sample], **figures} for label in ("greedy", "top-p <0.9>")]}


RESULTS = {"ppl": perplexity(), "memory": forgetting(), "worth": history(), "quiz": quiz(), "said": samples()}


@pytest.fixture
def plots(study: StudyResults, tmp_path: Path) -> Path:
    for plot in PLOTS:
        write_svg(draw(study, plot), tmp_path / "plots" / f"{plot_name(plot)}.svg")
    return tmp_path / "plots"


def test_plots_take_their_ink_from_the_page_and_keep_text(plots: Path) -> None:
    assert sorted(path.stem for path in plots.iterdir()) == [
        "cmmlu-quiz",
        "forgetting-memory",
        "history-worth",
        "loss-by-seconds-smooth-2-log",
        "loss-by-tokens",
        "perplexity-ppl",
        "receptive-field-memory",
    ]
    for path in plots.iterdir():
        svg = path.read_text(encoding="utf-8")
        assert INK not in svg
        assert "currentColor" in svg
        assert "<text" in svg
        assert "&lt;x&gt;" in svg
        assert ("qwen" in svg) != path.stem.startswith("loss")


def test_the_forgetting_plot_shows_curves_and_marks(study: StudyResults) -> None:
    for axes in draw(study, {"kind": "forgetting", "evaluation": "memory"}).axes:
        copy, lm, *_ = axes.lines
        assert (list(copy.get_xdata()), list(copy.get_ydata())) == ([4, 8], [0.995, 0.5])
        assert list(lm.get_ydata()) == [0.2, 0.2]
        upright = [line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1]
        assert upright == [16, 32, 24]
    for axes in draw(study, {"kind": "receptive-field", "evaluation": "memory"}).axes:
        assert list(axes.lines[0].get_xdata()) == [5, 9]
        assert list(axes.lines[0].get_ydata()) == pytest.approx([0.795, 0.3])
        assert [line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1] == [24, 48]


def test_the_history_plot_shows_both_losses_and_the_gain(study: StudyResults) -> None:
    losses, gains = draw(study, {"kind": "history", "evaluation": "worth"}).axes
    assert list(losses.lines[0].get_xdata()) == [1, 2, 3.5]
    assert [line.get_ydata()[0] for line in losses.lines[:2]] == [3.25, 4.0]
    assert list(gains.lines[0].get_ydata()) == [0.25] * 3


def test_plots_on_one_page_do_not_share_identifiers(plots: Path) -> None:
    every = [identifier for path in plots.iterdir() for identifier in re.findall(r'\bid="([^"]+)"', path.read_text())]
    assert len(every) == len(set(every))
    for path in plots.iterdir():
        svg = path.read_text()
        used = set(re.findall(r"url\(#([^)]+)\)", svg)) | set(re.findall(r'href="#([^"]+)"', svg))
        assert used <= set(re.findall(r'\bid="([^"]+)"', svg))


def test_a_plot_is_the_same_each_time(study: StudyResults, plots: Path, tmp_path: Path) -> None:
    write_svg(draw(study, PLOTS[0]), tmp_path / "again" / "loss-by-tokens.svg")
    assert (tmp_path / "again" / "loss-by-tokens.svg").read_text() == (plots / "loss-by-tokens.svg").read_text()


def test_the_loss_plot_shows_the_logged_values(study: StudyResults) -> None:
    axes = draw(study, PLOTS[0]).axes[0]
    first = axes.lines[0]
    assert list(first.get_xdata()) == [10, 20, 30, 40]
    assert list(first.get_ydata()) == pytest.approx([6.0, 5.5, 5 + 1 / 3, 5.0])


def test_smoothing_is_a_running_mean() -> None:
    assert smoothed([1, 2, 3, 4], 1).tolist() == [1, 2, 3, 4]
    assert smoothed([1, 2, 3, 4], 2).tolist() == [1, 1.5, 2.5, 3.5]
    assert np.allclose(smoothed([1, 2, 3], 10), [1, 1.5, 2])


def test_the_page_escapes_and_marks_what_it_shows(study: StudyResults, plots: Path) -> None:
    page = study_page(study, plots)
    assert "<script>" not in page
    assert "今天&lt;script&gt;" in page
    assert "好&amp;坏↵↵</td>" in page
    assert "<td>75/25/0/0%</td>" in page
    assert page.count("demonstration set") >= 2
    assert "lr 1 7, lr &lt;x&gt; 7, qwen 7" in page
    assert "where 20 characters are; 1 of the 60 questions are too short to tell" in page
    assert page.count("<td>47.5%</td>") == 6
    assert "87.5% repeated" in page
    assert "top-p &lt;0.9&gt;" in page
    assert "after 2 demonstrations with other pieces" in page
    assert "by the word count that the dataset was published with" in page
    assert "A piece begins with <code>&lt;eos&gt;</code>" in page
    assert "0.500 to 1.000" in page
    assert "Trained elsewhere and measured as it is: <code>qwen</code>" in page
    assert '<td class="best">4.000</td>' in page
    assert "Not measurable, longer than the model's positions" in page
    assert "1 min 15 s" in page
    assert "above" in page


def test_milestones_come_newest_first(study: StudyResults) -> None:
    table = study_table(study)
    older, newer = study.spec | {"date": "2025-01-01", "title": "Older"}, study.spec | {"title": "Newer <i>"}
    page = milestones_page([(older, table), (newer, table)])
    assert page.index("Newer &lt;i&gt;") < page.index("Older")
    assert "<td>a</td><td>40</td>" in page
    assert "<td>qwen</td>" not in page


def test_the_table_has_a_row_per_run_and_columns_by_evaluation(study: StudyResults) -> None:
    table = study_table(study)
    assert list(table["run"]) == [*RUNS, "qwen"]
    assert list(table["optimizer.lr"])[:2] == ["1", "<x>"]
    assert table["tokens"].isna().tolist() == table["optimizer.lr"].isna().tolist() == [False, False, True]
    assert list(table["memory.order.fine"]) == [4] * 3
    assert list(table["memory.random.effective"]) == [9] * 3
    assert list(table["quiz.5-shot.low"]) == [0.3] * 3
    assert list(table["quiz.0-shot.STEM"]) == [0.55] * 3
    assert list(table["worth.gain"]) == [0.75] * 3
    assert list(table["said.greedy.repetition"]) == [0.875] * 3


def test_a_study_may_have_models_only(study: StudyResults, tmp_path: Path) -> None:
    plot = {"kind": "forgetting", "evaluation": "memory"}
    alone = StudyResults(study.spec | {"variants": [], "plots": [plot]}, study.results)
    write_svg(draw(alone, plot), tmp_path / "alone" / f"{plot_name(plot)}.svg")
    assert "validation loss" not in study_page(alone, tmp_path / "alone")
    assert list(study_table(alone)["run"]) == ["qwen"]
    page = milestones_page([(alone.spec, study_table(alone))])
    assert "Models measured: <code>qwen</code>" in page
    assert "validation loss" not in page


def test_numbers_are_said_as_people_say_them() -> None:
    assert [duration(s) for s in (3, 75, 7300)] == ["3 s", "1 min 15 s", "2 h 1 min"]
    assert [number(v) for v in (None, float("nan"), 1234.567, 1e9)] == ["–", "–", "1,234.57", "1.0e+09"]
    assert [exponential(v) for v in (None, 0.0, 463.2)] == ["–", "1.0", "e^463"]
    assert (percent(0.1234), big(65536), big(1234567)) == ("12.3%", "64Ki", "1,234,567")
    assert paragraphs("a\nb\n\n\n\nc\n") == ["a\nb", "c"]


def test_what_was_trained_once_for_several_runs_is_told(study: StudyResults, plots: Path) -> None:
    assert "share their first steps" not in study_page(study, plots)
    for run in RUNS:
        path = study.results / "runs" / run / "summary.json"
        write_json(path, read_json(path) | {"own_tokens": 10})
    write_json(study.results / "trunks" / "abc" / "30" / "summary.json", {"own_tokens": 30})
    study.spec["trunks"].append("abc/30")
    assert "50 tokens in place of 80, 37.5% fewer" in study_page(study, plots)


def test_loss_spikes_are_told(study: StudyResults, plots: Path) -> None:
    path = study.results / "runs" / "a" / "summary.json"
    spikes = [
        {"step": 7, "loss": 9.25, "limit": 4.5, "back_to": 5, "skipped": 2},
        {"step": 9, "loss": None, "limit": None, "back_to": 5, "skipped": 4},
    ]
    write_json(path, read_json(path) | {"spikes": spikes})
    text = " ".join(study_page(study, plots).split())
    assert "met 2 loss spikes and went back: step 7 (loss 9.25, limit 4.50) to 5, leaving out 2 batches;" in text
    assert "step 9 (loss not finite) to 5, leaving out 4 batches." in text


# --- in-context autoencoders -----------------------------------------------------------------------------------------

SHOWN = {
    "original": [{"text": "今天<b>", "same": True}, {"text": "记\n者", "same": False}, {"text": "报", "same": True}],
    "written": [{"text": "今天<b>", "same": True}, {"text": "<i>\n好", "same": False}, {"text": "报", "same": True}],
}
CURVES = [{"kind": "reconstruction", "evaluation": "held"}, {"kind": "compression", "evaluation": "held"}]


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
def icae(study: StudyResults) -> Callable[..., StudyResults]:
    """The same two runs as those of in-context autoencoders, with a result of `reconstruction` each."""
    for run, accuracy in zip(RUNS, (0.25, 0.75), strict=True):
        path = study.results / "runs" / run / "metrics.jsonl"
        first, *lines, last = read_jsonl(path)
        first |= {"valid_loss": 9.0, "valid_accuracy": 0.0}
        lines = [first, *lines, last | {"valid_accuracy": accuracy}]
        write_text(path, "".join(json.dumps(line) + "\n" for line in lines))

    def made(*results: dict) -> StudyResults:
        for run, result in zip(RUNS, results, strict=True):
            write_json(study.results / "evaluations" / run / "held.json", result)
        return StudyResults(
            study.spec | {"models": [], "evaluations": {"held": "reconstruction"}, "plots": CURVES}, study.results
        )

    return made


def page_of(study: StudyResults) -> str:
    for plot in study.spec["plots"]:
        write_svg(draw(study, plot), study.results / "icae" / f"{plot_name(plot)}.svg")
    return study_page(study, study.results / "icae")


def lines_of(axes, dotted: bool = False) -> list[tuple[list[float], list[float]]]:
    """What is drawn in a panel besides the legend, dotted or not."""
    lines = [line for line in axes.lines if len(line.get_xdata()) and (line.get_linestyle() == ":") == dotted]
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in lines]


def test_the_reconstruction_plot_shows_both_curves_and_the_loss_without_memory(icae: Callable) -> None:
    none = {"memory": {"loss": 1.0, "accuracy": 0.5}, "none": {"loss": 7.0, "accuracy": 0.0}}
    other = setting(ae=none)
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
    table = study_table(icae(reconstruction(*settings), reconstruction(*settings)))
    expected = {
        "bleu": 0.625, "exact": 0.25, "ratio": 4.0, "ae_loss.memory": 1.25, "ae_loss.none": 6.5, "ae_loss.other": 7.25,
        "lm_loss.memory": 3.5, "lm_loss.full": 3.375, "lm_loss.none": 4.0, "ae_accuracy.memory": 0.5,
        "ae_accuracy.none": 0.5, "ae_accuracy.other": 0.5, "gain": 5.25, "low": 4.875, "high": 5.5,
    }  # fmt: skip
    columns = [f"held.{one}.{key}" for one in ("held-out-32-rate-4", "random-64-rate-4") for key in expected]
    assert [column for column in table if column.startswith("held.")] == columns
    for key, value in expected.items():
        assert list(table[f"held.held-out-32-rate-4.{key}"]) == [value] * 2
    for key in ("bleu", "exact", "lm_loss.memory"):
        assert table[f"held.random-64-rate-4.{key}"].isna().all()
    assert list(table["held.random-64-rate-4.gain"]) == [5.25] * 2


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


def test_a_study_may_have_no_evaluations(icae: Callable) -> None:
    study = icae(*[reconstruction(setting())] * 2)
    alone = StudyResults(study.spec | {"evaluations": {}, "plots": PLOTS[:1]}, study.results)
    page = page_of(alone)
    assert "Memory in place of the context" not in page and "1 min 15 s" in page
    assert not any(column.startswith("held") for column in study_table(alone))
