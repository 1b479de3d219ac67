"""One evaluation: a run or a model is opened, measured, and what was found is written."""

import csv
import inspect
import time
from pathlib import Path

from seedbed.errors import SeedbedError, choices
from seedbed.evaluate import EVALUATIONS
from seedbed.evaluate.figures import write_measured
from seedbed.files import replacing
from seedbed.objectives import OBJECTIVES
from seedbed.registry import located
from seedbed.runs import MODEL, provenance, verify_model


def evaluate(
    name: str,
    spec: dict,
    run: Path | None,
    model: Path | None,
    inputs: list[tuple[str, Path]],
    out: Path,
    batch_tokens: int = 0,
) -> dict:
    """Measure a run's directory, or a model's, and write `<out>.json` and `<out>.tsv`; return what went into the JSON.

    `inputs` are the files that this kind of evaluation reads, by name; a name may come several times. `batch_tokens`
    is how many tokens are read at once, 0 for what suits the device.
    """
    others = {}
    for key, path in inputs:
        others.setdefault(key, []).append(path)
    tokens = others.pop("tokens", [None])[0]
    return measured(name, spec, subject_of(spec, run, model, tokens and tokens.parent, batch_tokens), out, **others)


def subject_of(spec: dict, run: Path | None, model: Path | None, tokens: Path | None, batch_tokens: int):
    """What an evaluation of this spec measures: the model of a run, or one where there is no run.

    Raises SeedbedError where it is not for what the run leaves, and where that is damaged.
    """
    wanted = EVALUATIONS[spec["kind"]].subject
    if run:
        objective = provenance(run)["spec"].get("objective")
        if objective not in OBJECTIVES:
            raise SeedbedError(f"{run}: no objective is called {objective!r}{choices(objective, OBJECTIVES)}")
        found = OBJECTIVES[objective].subject
        if found != wanted:
            raise SeedbedError(f"{run}: is of kind {found!r}; {spec['kind']} measures models of kind {wanted!r}")
    verify_model(run / MODEL if run else model)
    kind = located(subject_class(spec["kind"]))
    options = {"batch_tokens": batch_tokens, "precision": spec["precision"]}
    return kind.of_run(run, tokens, **options) if run else kind.of_model(model, tokens, **options)


def subject_class(kind: str) -> str:
    """Where the class is that opens what a kind of evaluation measures, as `module:name`."""
    return next(run.subject_class for run in OBJECTIVES.values() if run.subject == EVALUATIONS[kind].subject)


def modules_of(kind: str) -> list[str]:
    """The modules that decide what comes out of a kind of evaluation, besides those that they import."""
    return [f"{EVALUATIONS.package(kind)}.measure", subject_class(kind).partition(":")[0], __name__]


def measured(name: str, spec: dict, subject, out: Path, **inputs: list[Path]) -> dict:
    """Measure a subject that is open already."""
    started = time.perf_counter()
    measure = located(f"{EVALUATIONS.package(spec['kind'])}.measure:measure")
    known = [name for name in inspect.signature(measure).parameters if name not in ("spec", "subject")]
    for key in inputs.keys() - set(known):
        raise SeedbedError(f"input {key!r}: {spec['kind']} reads none of this name{choices(key, ['tokens', *known])}")
    read = {"model": subject.identity(), "data": subject.data_identity()}
    result, rows = measure(spec, subject, **inputs)
    if read != {"model": subject.identity(), "data": subject.data_identity()}:
        raise SeedbedError(f"{subject.identity()['path']}: changed while it was measured; run the same command again")
    found = {
        "evaluation": name,
        "spec": spec,
        **read,
        "seconds": round(time.perf_counter() - started, 3),
        **result,
    }
    write_rows(out.with_suffix(".tsv"), rows)
    write_measured(out.with_suffix(".json"), found)
    return found


def write_rows(path: Path, rows: list[dict]) -> None:
    """Rows of equal keys as tab-separated values with a header."""
    # The csv module leaves a lone carriage return bare, where readers see the end of a line.
    quoting = csv.QUOTE_ALL if any("\r" in str(value) for row in rows for value in row.values()) else csv.QUOTE_MINIMAL
    form = {"dialect": "excel-tab", "lineterminator": "\n", "quoting": quoting}
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]) if rows else [], **form)
        writer.writeheader()
        writer.writerows(rows)
