"""Flow plans: what a Thinker does at each of its steps.

A plan is a table with a row for each step. The latents attend to what the row lets them see: the input (`read_input`),
latents of earlier steps (`mem_lookup`), learned vectors that never change (`static_mem_lookup`). `mem_write` keeps the
new latents in memory; `output` makes an answer from what the row lets see and has just written.
"""

from dataclasses import dataclass, fields

from seedbed.data.tokens import mixed

NAMED = ("always", "read-once-answer-last", "random")


@dataclass(frozen=True)
class Row:
    """One step of a plan."""

    read_input: bool = False
    mem_lookup: bool = False
    mem_write: bool = False
    static_mem_lookup: bool = False
    output: bool = False

    @property
    def sees(self) -> bool:
        return self.read_input or self.mem_lookup or self.static_mem_lookup


COLUMNS = tuple(field.name for field in fields(Row))


def plain(n_step: int, read_step: int | None = None, every: bool = False, static: bool = False) -> list[Row]:
    """The loop without a plan: memory is read and written at every step, the input at the first `read_step` steps.

    With `read_step` None that is every step (recall, arXiv 2202.05826). The answer is made at the last step, or at
    `every` one.
    """
    reads = n_step if read_step is None else read_step
    return [Row(step < reads, True, True, static, every or step == n_step - 1) for step in range(n_step)]


def always(n_step: int, static: bool = False) -> list[Row]:
    """Everything at every step."""
    return [Row(True, True, True, static, True)] * n_step


def read_once_answer_last(n_step: int, static: bool = False) -> list[Row]:
    """Read the input into memory, work on memory alone, and answer from it at the last step."""
    if n_step == 1:
        return [Row(read_input=True, mem_write=True, static_mem_lookup=static, output=True)]
    first = Row(read_input=True, mem_write=True, static_mem_lookup=static)
    work = Row(mem_lookup=True, mem_write=True, static_mem_lookup=static)
    return [first, *[work] * (n_step - 2), Row(mem_lookup=True, static_mem_lookup=static, output=True)]


def drawn(n_step: int, seed: int, static: bool = False) -> list[Row]:
    """A random plan that reads the input at least once, sees something at every step, and answers at the last.

    That answer comes from latents and static memory, so that every batch trains all weights: what optimizers do to
    those without a gradient depends on processes and ZeRO stage.
    """
    bits, written, rows = mixed(mixed(seed) ^ n_step), False, []
    for step in range(n_step):
        bits = mixed(bits)
        read, lookup, write, still, output = (bool(bits >> place & 1) for place in range(len(COLUMNS)))
        last, remembers = step == n_step - 1, lookup and written
        read |= not remembers  # the first step, too
        write |= last and not remembers
        rows.append(Row(read, lookup, write, static and (still or last), output or last))
        written |= write
    return rows


def planned(
    flow: str | list[dict] | None, n_step: int, seed: int, static: bool, read_step: int | None, every: bool
) -> list[Row]:
    """The rows of a configured flow, for a batch that takes `n_step` steps; `seed` is that of `random`."""
    if isinstance(flow, list):
        return [Row(**row) for row in flow]
    match flow:
        case "always":
            return always(n_step, static)
        case "read-once-answer-last":
            return read_once_answer_last(n_step, static)
        case "random":
            return drawn(n_step, seed, static)
    return plain(n_step, read_step, every, static)


def misfit(rows: list[Row], static: bool) -> str | None:
    """What is wrong with a table, in words."""
    if not any(row.output for row in rows):
        return "never outputs; expected a row with output 1"
    last = max(step for step, row in enumerate(rows) if row.output)
    if not any(row.read_input for row in rows[: last + 1]):
        return "never reads the input before it outputs; expected a row with read_input 1"
    written = False
    for step, row in enumerate(rows, 1):
        if not (row.read_input or row.static_mem_lookup or (row.mem_lookup and written)):
            return f"row {step} sees nothing; expected read_input, static_mem_lookup, or mem_lookup of what was written"
        written |= row.mem_write
    if not static and any(row.static_mem_lookup for row in rows):
        return "static_mem_lookup without static memory; expected model.static_memory"
    return None
