import re
from pathlib import Path

import numpy as np
import pytest

from seedbed.files import read_json, write_json, write_text
from seedbed.report.gather import Gathered
from seedbed.report.pages import big, duration, exponential, milestones_page, number, paragraphs, percent, study_page
from seedbed.report.plots import INK, draw, plot_name, smoothed, write_svg
from seedbed.report.tables import study_table

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
def study(tmp_path: Path) -> Gathered:
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
    return Gathered({**spec, **lists}, tmp_path)


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
def plots(study: Gathered, tmp_path: Path) -> Path:
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


def test_the_forgetting_plot_shows_curves_and_marks(study: Gathered) -> None:
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


def test_the_history_plot_shows_both_losses_and_the_gain(study: Gathered) -> None:
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


def test_a_plot_is_the_same_each_time(study: Gathered, plots: Path, tmp_path: Path) -> None:
    write_svg(draw(study, PLOTS[0]), tmp_path / "again" / "loss-by-tokens.svg")
    assert (tmp_path / "again" / "loss-by-tokens.svg").read_text() == (plots / "loss-by-tokens.svg").read_text()


def test_the_loss_plot_shows_the_logged_values(study: Gathered) -> None:
    axes = draw(study, PLOTS[0]).axes[0]
    first = axes.lines[0]
    assert list(first.get_xdata()) == [10, 20, 30, 40]
    assert list(first.get_ydata()) == pytest.approx([6.0, 5.5, 5 + 1 / 3, 5.0])


def test_smoothing_is_a_running_mean() -> None:
    assert smoothed([1, 2, 3, 4], 1).tolist() == [1, 2, 3, 4]
    assert smoothed([1, 2, 3, 4], 2).tolist() == [1, 1.5, 2.5, 3.5]
    assert np.allclose(smoothed([1, 2, 3], 10), [1, 1.5, 2])


def test_the_page_escapes_and_marks_what_it_shows(study: Gathered, plots: Path) -> None:
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


def test_milestones_come_newest_first(study: Gathered) -> None:
    table = study_table(study)
    older, newer = study.spec | {"date": "2025-01-01", "title": "Older"}, study.spec | {"title": "Newer <i>"}
    page = milestones_page([(older, table), (newer, table)])
    assert page.index("Newer &lt;i&gt;") < page.index("Older")
    assert "<td>a</td><td>40</td>" in page
    assert "<td>qwen</td>" not in page


def test_the_table_has_a_row_per_run_and_columns_by_evaluation(study: Gathered) -> None:
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


def test_a_study_may_have_models_only(study: Gathered, tmp_path: Path) -> None:
    plot = {"kind": "forgetting", "evaluation": "memory"}
    alone = Gathered(study.spec | {"variants": [], "plots": [plot]}, study.results)
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


def test_what_was_trained_once_for_several_runs_is_told(study: Gathered, plots: Path) -> None:
    assert "share their first steps" not in study_page(study, plots)
    for run in RUNS:
        path = study.results / "runs" / run / "summary.json"
        write_json(path, read_json(path) | {"own_tokens": 10})
    write_json(study.results / "trunks" / "abc" / "30" / "summary.json", {"own_tokens": 30})
    study.spec["trunks"].append("abc/30")
    assert "50 tokens in place of 80, 37.5% fewer" in study_page(study, plots)


def test_loss_spikes_are_told(study: Gathered, plots: Path) -> None:
    path = study.results / "runs" / "a" / "summary.json"
    spikes = [
        {"step": 7, "loss": 9.25, "limit": 4.5, "back_to": 5, "skipped": 2},
        {"step": 9, "loss": None, "limit": None, "back_to": 5, "skipped": 4},
    ]
    write_json(path, read_json(path) | {"spikes": spikes})
    text = " ".join(study_page(study, plots).split())
    assert "met 2 loss spikes and went back: step 7 (loss 9.25, limit 4.50) to 5, leaving out 2 batches;" in text
    assert "step 9 (loss not finite) to 5, leaving out 4 batches." in text
