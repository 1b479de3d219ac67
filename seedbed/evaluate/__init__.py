"""Evaluations: each kind is a module with `measure(spec, subject) -> (result, rows)`.

`result` is plain JSON with the figures, `rows` a list of flat mappings behind them (documents, repeats, questions).
"""

import csv
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from seedbed.files import replacing, write_json

if TYPE_CHECKING:  # its torch is slow to load, and not every module here needs it
    from seedbed.evaluate.subject import Subject


def subject_of(spec: dict, run: Path | None, model: Path | None, tokens: Path | None, batch_tokens: int):
    """What this kind of evaluation measures: a run's directory, or a model's where there is no run."""
    options = {"batch_tokens": batch_tokens, "precision": spec["precision"]}
    if spec["kind"] == "reconstruction":
        from seedbed.evaluate.icae_subject import IcaeSubject

        return IcaeSubject(run, tokens, **options)
    from seedbed.evaluate.subject import Subject

    return Subject.of_run(run, tokens, **options) if run else Subject.of_model(model, tokens, **options)


def evaluate(name: str, spec: dict, subject: "Subject", out: Path, **inputs: list[Path]) -> dict:
    """Measure a subject and write `<out>.json` and `<out>.tsv`; return what went into the JSON.

    `inputs` are files of other stages that this kind of evaluation takes.
    """
    started = time.perf_counter()
    result, rows = import_module(f"seedbed.evaluate.{spec['kind']}").measure(spec, subject, **inputs)
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
    # The csv module leaves a lone carriage return bare, where readers see the end of a line.
    quoting = csv.QUOTE_ALL if any("\r" in str(value) for row in rows for value in row.values()) else csv.QUOTE_MINIMAL
    form = {"dialect": "excel-tab", "lineterminator": "\n", "quoting": quoting}
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]) if rows else [], **form)
        writer.writeheader()
        writer.writerows(rows)
