"""Evaluations: each kind is a module with `measure(spec, subject) -> (result, rows)`.

`result` is plain JSON with the figures, `rows` a list of flat mappings behind them (documents, repeats, questions).
"""

import csv
import time
from importlib import import_module
from pathlib import Path

from seedbed.evaluate.subject import Subject
from seedbed.files import replacing, write_json


def evaluate(name: str, spec: dict, subject: Subject, out: Path) -> dict:
    """Measure a subject and write `<out>.json` and `<out>.tsv`; return what went into the JSON."""
    started = time.perf_counter()
    result, rows = import_module(f"seedbed.evaluate.{spec['kind']}").measure(spec, subject)
    measured = {
        "evaluation": name,
        "spec": spec,
        "model": subject.identity(),
        "data": subject.data_identity(),
        "seconds": round(time.perf_counter() - started, 3),
        **result,
    }
    write_rows(out.with_suffix(".tsv"), rows)
    write_json(out.with_suffix(".json"), measured)
    return measured


def write_rows(path: Path, rows: list[dict]) -> None:
    """Rows of equal keys as tab-separated values with a header."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]) if rows else [], dialect="excel-tab", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
