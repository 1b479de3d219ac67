"""The index of all studies."""

from seedbed.report.pages import environment
from seedbed.report.table import Row, unit_of


def milestones_page(studies: list[tuple[dict, list[Row]]]) -> str:
    """One dated entry per study, the newest first, from specs and the rows of their tables."""
    entries = [{"spec": spec, "table": rows_of_runs(rows)} for spec, rows in studies]
    entries.sort(key=lambda entry: entry["spec"]["date"], reverse=True)
    return environment().get_template("milestones.html").render(title="Milestones", entries=entries)


def rows_of_runs(rows: list[Row]) -> list[Row]:
    """The rows of a study's table but for external models, each with the `unit` of its run."""
    return [row | {"unit": unit_of(row)} for row in rows if "steps" in row]
