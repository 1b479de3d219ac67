"""The table of a study: a row per run, and per model that was not trained here."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from seedbed.errors import SeedbedError
from seedbed.records import Record, read_record
from seedbed.report.kinds import report_of
from seedbed.report.results import StudyResults

SPEED = "_per_second"
Row = dict[str, str | int | float | None]


def cost_keys(unit: str) -> tuple[str, ...]:
    """What the row of a run that counts in this unit has of its summary."""
    return ("parameters", "steps", unit, "loss", "valid_loss", unit + SPEED, "seconds", "device_hours")


def unit_of(row: Row) -> str:
    """The unit of a run's row."""
    return next(key.removesuffix(SPEED) for key in row if key.endswith(SPEED) and "." not in key)


def costs_are_numbers(row: Row) -> Row:
    """Accept the row of a run only with all that it cost; that of a model has no costs."""
    if "steps" not in row:
        return row
    if not any(key.endswith(SPEED) and "." not in key for key in row):
        raise ValueError(f"expected a key that ends in {SPEED}")
    for key in cost_keys(unit_of(row)):
        if type(row.get(key)) not in (int, float):
            raise ValueError(f"{key}: expected a number")
    return row


class Table(Record):
    """table.json: what table.tsv shows of a study."""

    study: str
    rows: list[Annotated[Row, AfterValidator(costs_are_numbers)]]


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
    varied = {key: value for key, value in variant["values"].items() if key != "run"}
    peaks = summary["peak_memory_bytes"]
    memory = {"peak_memory_bytes": peaks.get("device", peaks["host"])}
    return {"run": variant["run"]} | varied | {key: summary[key] for key in cost_keys(unit)} | memory


def figures(study: StudyResults, subject: str) -> Row:
    """The figures of all evaluations of a run or model."""
    found = {}
    for name, kind in study.spec["evaluations"].items():
        for key, value in report_of(kind).columns(study.evaluation(subject, name)).items():
            found[f"{name}.{key}"] = value
    return found
