"""A study of two runs with results as the other stages write them, for tests of what a report shows."""

import json
import re
from pathlib import Path

from seedbed.config.fields import without
from seedbed.files import read_json, read_jsonl, write_json, write_text
from seedbed.report.axes import INK
from seedbed.report.draw import draw, plot_name, write_svg
from seedbed.report.results import StudyResults
from seedbed.report.study import study_page

RUNS = {"a": 5.0, "a+optimizer.lr=<x>": 4.0}
LOSS = {"kind": "loss", "x": "tokens", "smooth": 1, "log": False}
COSTS = {
    "parameters": 1234,
    "steps": 4,
    "tokens": 40,
    "own_tokens": 40,
    "spikes": [],
    "tokens_per_second": 20.0,
    "seconds": 75.0,
    "device_hours": 0.5,
    "peak_memory_bytes": {"host": 2**30},
}
PROVENANCE = {
    "identity": "f" * 64,
    "execution": {"processes": 2, "micro_batch": 1, "accumulation": 1, "zero_stage": 0},
    "precision": "fp32",
    "git": None,
    "machine": {"processor": "x"},
    "software": {"torch": "1"},
    "inputs": {"tokens": "e" * 64},
    "spec": {"s": 1},
}


def example_study(folder: Path, kind: str = "", result: dict | None = None, **spec: object) -> StudyResults:
    """Two runs and the external model qwen, each with this result of an evaluation `measured`; some keys changed."""
    for run, loss in RUNS.items():
        lines = [
            f'{{"step": {s}, "tokens": {s * 10}, "seconds": {s / 2}, "loss": {loss + 1 / s}}}\n' for s in (1, 2, 3)
        ]
        lines.append(f'{{"step": 4, "tokens": 40, "seconds": 2, "loss": {loss}, "valid_loss": {loss}}}\n')
        write_text(folder / "runs" / run / "metrics.jsonl", "".join(lines))
        write_json(folder / "runs" / run / "summary.json", COSTS | {"loss": loss, "valid_loss": loss})
        write_json(folder / "runs" / run / "run.json", PROVENANCE)
    for subject in (*RUNS, "qwen"):
        write_json(folder / "evaluations" / subject / "measured.json", result)
    variants = [{"run": run, "values": {"optimizer.lr": lr}} for run, lr in zip(RUNS, ("1", "<x>"), strict=True)]
    whole = {"name": "s", "date": "2026-01-02", "title": "Lernrate", "notes": "", "variants": variants}
    whole |= {"models": ["qwen"], "trunks": [], "evaluations": {"measured": kind} if kind else {}, "plots": []}
    return StudyResults(whole | spec, folder)


def counting_samples(study: StudyResults, *runs: str) -> StudyResults:
    """The study where these runs count samples, one a step."""
    for run in runs:
        folder = study.results / "runs" / run
        lines = [line | {"samples": line["step"]} for line in read_jsonl(folder / "metrics.jsonl")]
        write_text(folder / "metrics.jsonl", "".join(f"{json.dumps(without(line, 'tokens'))}\n" for line in lines))
        made = without(read_json(folder / "summary.json"), "tokens", "own_tokens", "tokens_per_second")
        made |= {"unit": "samples", "samples": 4, "own_samples": 4, "samples_per_second": 2.0}
        write_json(folder / "summary.json", made)
    return study


def draw_plots(study: StudyResults) -> Path:
    """The directory of the study's plots; each is checked to follow the page that it is in."""
    folder, identifiers = study.results / "plots", []
    for plot in study.spec["plots"]:
        path = folder / f"{plot_name(plot)}.svg"
        write_svg(draw(study, plot), path)
        svg = path.read_text(encoding="utf-8")
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
