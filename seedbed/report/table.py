"""The table of a study: a row per run, and per model that was not trained here."""

from pathlib import Path

from seedbed.errors import SeedbedError
from seedbed.records import Record, read_record
from seedbed.report.kinds import report_of
from seedbed.report.results import StudyResults

Row = dict[str, str | int | float | None]


class Table(Record):
    """table.json: what table.tsv shows of a study."""

    study: str
    rows: list[Row]


def read_rows(results: Path, study: str) -> list[Row]:
    """The rows of a study's table below the results."""
    found = read_record(path := results / "studies" / study / "table.json", Table)
    if found["study"] != study:
        raise SeedbedError(f"{path}: is of the study {found['study']!r}; expected {study!r}")
    return found["rows"]


def study_rows(study: StudyResults) -> list[Row]:
    """What was varied, what it cost and what came out; columns of evaluations carry their name."""
    runs = [costs(study, variant) | figures(study, variant["run"]) for variant in study.spec["variants"]]
    return runs + [{"run": model} | figures(study, model) for model in study.spec["models"]]


def costs(study: StudyResults, variant: dict) -> Row:
    """What a run has varied and what it took, counted in its unit."""
    summary, unit = study.summary(variant["run"]), study.unit(variant["run"])
    keys = ("parameters", "steps", unit, "loss", "valid_loss", f"{unit}_per_second", "seconds", "device_hours")
    varied = {key: value for key, value in variant["values"].items() if key != "run"}
    peaks = summary["peak_memory_bytes"]
    memory = {"peak_memory_bytes": peaks.get("device", peaks["host"])}
    return {"run": variant["run"]} | varied | {key: summary[key] for key in keys} | memory


def figures(study: StudyResults, subject: str) -> Row:
    """The figures of all evaluations of a run or model."""
    found = {}
    for name, kind in study.spec["evaluations"].items():
        for key, value in report_of(kind).columns(study.evaluation(subject, name)).items():
            found[f"{name}.{key}"] = value
    return found
