"""What a dry run tells of each run before it is trained: sizes, steps, bytes, and time where one was measured."""

from pathlib import Path

from seedbed.errors import SeedbedError
from seedbed.fields import format_count
from seedbed.files import canonical_json, read_json
from seedbed.plan import Plan, data_of, dump, training_spec
from seedbed.run_config import Run
from seedbed.trunks import Trunk

COLUMNS = ("run", "parameters", "tokens", "steps", "batch", "lr", "tokens/parameter", "checkpoint", "time")


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
    """Which runs grow from a trunk."""
    users = [name for name, last in plan.trunks.items() if trunk in last.chain]
    tokens = trunk.step * trunk.spec["batch_tokens"]
    return f"trunk {trunk.name}: the first {trunk.step:,} steps ({tokens:,} tokens) of {', '.join(users)}, trained once"


def line(plan: Plan, name: str, run: Run, measured: dict) -> tuple[str, ...]:
    facts = derived(plan, run)
    known = shape(training_spec(dump(run)))
    speed = known and measured.get(known)
    return (
        name,
        shown(facts["parameters"], "{:,}"),
        shown(facts["tokens"], "{:,}"),
        shown(facts["steps"], "{:,}"),
        format_count(run.batch_tokens),
        f"{run.optimizer.lr:g}",
        shown(facts["tokens_per_parameter"], "{:.2f}"),
        shown(facts["checkpoint_bytes"] and facts["checkpoint_bytes"] / 2**20, "{:,.0f} MiB"),
        shown(speed and facts["tokens"] and facts["tokens"] / speed / 60, "{:,.1f} min"),
    )


def shown(value: float | None, form: str) -> str:
    return "?" if value is None else form.format(value)


def derived(plan: Plan, run: Run) -> dict:
    """Sizes of a run that follow from its configuration; None where a tokenizer or corpus is not there yet."""
    results = Path(plan.config.results)
    vocab_size = getattr(plan.tokenizers[run.tokenizer], "vocab_size", None)
    vocab_size = vocab_size or stored(results / "tokenizers" / run.tokenizer / "stats.json", "vocab_size")
    data = results / data_of(dump(run))
    epoch = stored(data / "index.json", "splits", "train", "tokens") if run.objective == "lm" else None
    steps = run.budget.step_count(run.batch_tokens, epoch)
    tokens = steps and steps * run.batch_tokens
    parameters = vocab_size and run.parameters(vocab_size)
    return {
        "parameters": parameters,
        "tokens": tokens,
        "steps": steps,
        "tokens_per_parameter": tokens / parameters if tokens and parameters else None,
        "checkpoint_bytes": parameters and 12 * parameters,  # fp32 weights and two moments
    }


def stored(path: Path, *keys: str) -> int | None:
    if not path.exists():
        return None
    value = read_json(path)
    for key in keys:
        value = value[key]
    return value


def shape(spec: dict) -> str | None:
    """What the speed of a run hangs on most; None where its model is known by name only."""
    keys = ("objective", "model", "seq_len", "precision")
    keys += ("memory_tokens", "continuation", "lora", "decoder", "lm_ratio")  # of an ICAE
    return canonical_json({key: spec[key] for key in keys if key in spec}) if spec["model"] else None


def measured_speeds(results: Path) -> dict[str, float]:
    """Tokens per second of finished runs by shape, the newest for each."""
    speeds = {}
    for path in sorted(results.glob("runs/*/run.json"), key=lambda path: path.stat().st_mtime):
        try:
            speeds[shape(read_json(path)["spec"])] = read_json(path.with_name("summary.json"))["tokens_per_second"]
        except (SeedbedError, KeyError):
            continue
    return speeds
