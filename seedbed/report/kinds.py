"""What the kinds of evaluations show of themselves, found through the registry."""

from importlib import import_module
from pathlib import Path

from seedbed.config.study import PLOTS
from seedbed.errors import SeedbedError
from seedbed.evaluate import EVALUATIONS
from seedbed.imports import folder_of
from seedbed.report.contract import Plot, Report


def report_module(kind: str) -> str:
    """The module of a kind of evaluation with its `REPORT`; raises SeedbedError where it has none."""
    part_of(kind, "report.py")
    return f"{EVALUATIONS.package(kind)}.report"


def report_of(kind: str) -> Report:
    return import_module(report_module(kind)).REPORT


def plot_of(kind: str) -> Plot:
    """How a kind of plot is drawn."""
    return report_of(PLOTS[kind]).plots[kind]


def part_of(kind: str, name: str) -> Path:
    """A file of the package of a kind; raises SeedbedError where it is not there."""
    path = folder_of(EVALUATIONS.package(kind)) / name
    if not path.is_file():
        raise SeedbedError(f"evaluations of kind {kind!r}: {path} not found; expected what a report shows of them")
    return path
