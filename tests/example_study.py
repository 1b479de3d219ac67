"""A study of two runs with results as the other stages write them, for tests of what a report shows."""

import re
from pathlib import Path

import pandas as pd
from support import change_metrics, contents, leave_run

from seedbed.config.fields import without
from seedbed.evaluate.figures import write_measured
from seedbed.files import read_jsonl
from seedbed.records import write_record
from seedbed.report.axes import INK
from seedbed.report.draw import read_plot, write_plots
from seedbed.report.results import StudyResults
from seedbed.report.study import study_page
from seedbed.report.table import study_rows
from seedbed.runs import SUMMARIES

RUNS = {"a": 5.0, "a+optimizer.lr=<x>": 4.0}
LOSS = {"kind": "loss", "x": "tokens", "smooth": 1, "log": False}


def example_study(folder: Path, kind: str = "", result: dict | None = None, **spec: object) -> StudyResults:
    """Two runs and the external model qwen, each with this result of an evaluation `measured`; some keys changed."""
    for run, loss in RUNS.items():
        lines = [{"step": s, "tokens": s * 10, "seconds": s / 2, "loss": loss + 1 / s} for s in (1, 2, 3)]
        lines.append({"step": 4, "tokens": 40, "seconds": 2, "loss": loss, "valid_loss": loss})
        lines = [line | {"lr": 0.1, "grad_norm": 1.0, "tokens_per_second": 20.0} for line in lines]
        leave_run(folder / "runs" / run, lines, {"s": 1}, loss=loss, valid_loss=loss)
    for subject in (*RUNS, "qwen") if result else ():
        measure_as(folder, subject, kind, result)
    variants = [{"run": run, "values": {"optimizer.lr": lr}} for run, lr in zip(RUNS, ("1", "<x>"), strict=True)]
    whole = {"name": "s", "date": "2026-01-02", "title": "Lernrate", "notes": "", "variants": variants}
    whole |= {"models": ["qwen"], "trunks": [], "evaluations": {"measured": kind} if kind else {}, "plots": []}
    return StudyResults(whole | spec, folder)


def measure_as(results: Path, subject: str, kind: str, result: dict) -> None:
    """Let the evaluation `measured` of a run or model have this result."""
    read = {"model": {"path": subject, "sha256": {}}, "data": None, "seconds": 1.0}
    found = {"evaluation": "measured", "spec": {"kind": kind}} | read | result
    write_measured(results / "evaluations" / subject / "measured.json", found)


def counting_samples(study: StudyResults, *runs: str) -> StudyResults:
    """The study where these runs count samples, one a step."""
    for run in runs:
        folder, tokens = study.results / "runs" / run, ("tokens", "own_tokens", "tokens_per_second")
        made = without(contents(folder / "summary.json"), *tokens)
        made |= {"unit": "samples", "samples": 4, "own_samples": 4, "samples_per_second": 2.0}
        write_record(folder / "summary.json", SUMMARIES, made)
        lines = [without(line, *tokens) | {"samples": line["step"]} for line in read_jsonl(folder / "metrics.jsonl")]
        change_metrics(folder, lines)
    return study


def draw_plots(study: StudyResults) -> Path:
    """The directory of the study's plots; each is checked to follow the page that it is in."""
    folder, identifiers = study.results / "plots", []
    write_plots(study, folder)
    for plot in study.spec["plots"]:
        svg = read_plot(folder, plot)
        assert INK not in svg and "currentColor" in svg
        assert "<text" in svg and "&lt;x&gt;" in svg
        own = re.findall(r'\bid="([^"]+)"', svg)
        assert set(re.findall(r"url\(#([^)]+)\)", svg)) | set(re.findall(r'href="#([^"]+)"', svg)) <= set(own)
        identifiers += own
    assert len(identifiers) == len(set(identifiers))  # all are on one page
    return folder


def page_of(study: StudyResults) -> str:
    """The study's page with its plots."""
    return study_page(study, draw_plots(study))


def table_of(study: StudyResults) -> pd.DataFrame:
    """The study's table as it is written."""
    return pd.DataFrame(study_rows(study))
