"""The table that a dry run prints: size, steps, checkpoint and, where its speed is known, the time of each run."""

from pathlib import Path

from seedbed.config.fields import dump, format_count
from seedbed.config.run import Run
from seedbed.errors import SeedbedError
from seedbed.files import canonical_json
from seedbed.objectives import OBJECTIVES
from seedbed.plan.plan import Plan
from seedbed.plan.trunks import Trunk
from seedbed.runs import provenance, summary

COLUMNS = ("run", "parameters", "trained on", "steps", "batch", "lr", "per parameter", "checkpoint", "time")


def forecast(plan: Plan) -> str:
    """A text table with a line for each run; `?` where a tokenizer or corpus is not built yet."""
    measured = measured_speeds(Path(plan.config.results))
    lines = [COLUMNS, *(line(plan, name, run, measured) for name, run in plan.runs.items())]
    widths = [max(len(cells[column]) for cells in lines) for column in range(len(COLUMNS))]
    table = [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        for cells in lines
    ]
    return "\n".join(table + [shared(plan, trunk) for trunk in plan.trunks_by_name.values()])


def shared(plan: Plan, trunk: Trunk) -> str:
    """The line about a trunk: the runs that share it, the first of them by name."""
    users = plan.trunk_users[trunk.name]
    unit = plan.runs[users.first[0]].unit(trunk.spec)
    amount = f"{trunk.step * unit.per_step:,} {unit.name}"
    names = ", ".join(users.first)
    names += f" and {users.count - len(users.first):,} more" if users.count > len(users.first) else ""
    return f"trunk {trunk.name}: the first {trunk.step:,} steps ({amount}) of {names}, trained once"


def line(plan: Plan, name: str, run: Run, measured: dict) -> tuple[str, ...]:
    facts, spec = derived(plan, run), run.spec()
    key = speed_key(spec)
    speed = key and measured.get(key)
    return (
        name,
        shown(facts["parameters"], "{:,}"),
        shown(facts["amount"], f"{{:,}} {facts['unit'].name}"),
        shown(facts["steps"], "{:,}"),
        format_count(facts["unit"].per_step),
        f"{run.optimizer.lr:g}",
        shown(facts["per_parameter"], "{:.2f}"),
        shown(facts["checkpoint_bytes"] and facts["checkpoint_bytes"] / 2**20, "{:,.0f} MiB"),
        shown(speed and facts["amount"] and facts["amount"] / speed / 60, "{:,.1f} min"),
    )


def shown(value: float | None, form: str) -> str:
    return "?" if value is None else form.format(value)


def derived(plan: Plan, run: Run) -> dict:
    """Sizes of a run, derived from its configuration; None where they depend on something that is not built yet."""
    facts, unit = run.facts(plan), run.unit(dump(run))
    steps = run.step_count(facts.epoch)
    amount = steps and steps * unit.per_step
    return {
        "unit": unit,
        "parameters": facts.parameters,
        "amount": amount,
        "steps": steps,
        "per_parameter": amount / facts.parameters if amount and facts.parameters else None,
        "checkpoint_bytes": facts.parameters and 12 * facts.parameters,  # fp32 weights and two moments
    }


def speed_key(spec: dict) -> str | None:
    """What the speed of a run depends on; None where that is not in its spec."""
    found = OBJECTIVES[spec["objective"]].speed_key(spec)
    return found and canonical_json(found)


def measured_speeds(results: Path) -> dict[str, float]:
    """Units per second of finished runs by `speed_key`, the newest for each."""
    speeds = {}
    for path in sorted(results.glob("runs/*/run.json"), key=lambda path: path.stat().st_mtime):
        try:
            spec, totals = provenance(path.parent)["spec"], summary(path.parent)
            per_step = OBJECTIVES[spec["objective"]].unit(spec).per_step
            speeds[speed_key(spec)] = totals["steps"] * per_step / totals["seconds"]
        except (SeedbedError, ArithmeticError, KeyError, TypeError):  # damaged, or of another version
            continue
    return speeds
