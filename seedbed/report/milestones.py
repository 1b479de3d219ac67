"""The index of all studies."""

import pandas as pd

from seedbed.report.pages import environment

SPEED = "_per_second"


def milestones_page(studies: list[tuple[dict, pd.DataFrame]]) -> str:
    """One dated entry per study, the newest first, from specs and tables."""
    entries = [{"spec": spec, "table": rows_of_runs(table)} for spec, table in studies]
    entries.sort(key=lambda entry: entry["spec"]["date"], reverse=True)
    return environment().get_template("milestones.html").render(title="Milestones", entries=entries)


def rows_of_runs(table: pd.DataFrame) -> list[dict]:
    """The rows of a study's table but for external models, each with the `unit` of its run."""
    if "steps" not in table:
        return []
    units = [column.removesuffix(SPEED) for column in table if column.endswith(SPEED) and "." not in column]
    rows = table[table["steps"].notna()].convert_dtypes().to_dict("records")
    return [row | {"unit": next(unit for unit in units if pd.notna(row[unit]))} for row in rows]
