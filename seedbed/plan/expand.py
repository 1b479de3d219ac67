"""Studies expanded to runs: one for each combination of varied values, without duplicates."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seedbed.config.fields import LARGEST_COUNT, LONGEST_NAME, NAME, dump, format_count
from seedbed.config.load import AnyRun, Config
from seedbed.config.messages import refer, validated
from seedbed.config.run import Run
from seedbed.config.study import MOST_RUNS, Study
from seedbed.errors import SeedbedError, shown
from seedbed.files import canonical_json
from seedbed.models.config import NewModel
from seedbed.models.facts import MOST_LAYERS, Misfit
from seedbed.models.lookup import find
from seedbed.models.presets import PRESETS

MOST_CHANGES = 2 * MOST_RUNS  # values that are set on the way to them
MOST_MEASURED = 10 * MOST_RUNS  # evaluations of runs and models
MOST_MODELS = 500  # different new ones; each is laid out once, layer by layer
MOST_LAYERS_IN_ALL = 5000


@dataclass(frozen=True)
class Variant:
    """A run of a study with the values that distinguish it from the others, by dotted key."""

    run: str
    values: dict[str, str] = field(default_factory=dict)


def expand(config: Config) -> tuple[dict[str, Run], dict[str, list[Variant]]]:
    """Every run by name with all its values resolved, those of `runs` first; and the variants of each study.

    Equal runs of several studies become one, under the first name. Raises SeedbedError where a study or a run refers to
    something undefined, and where two different runs would have the same name.
    """
    check_counts(config)
    models = PRESETS | config.models
    bases = {name: run.with_models(f"runs.{name}", models) for name, run in config.runs.items()}
    drafts = {
        name: variants_of(f"studies.{name}", study, config, bases, models) for name, study in config.studies.items()
    }
    check_models(config, bases, drafts)
    runs, studies = {name: with_numbers(f"runs.{name}", run) for name, run in bases.items()}, {}
    known = {}
    for name, run in runs.items():
        known.setdefault(content(run), name)
    for name, variants in drafts.items():
        where = f"studies.{name}"
        numbered = [(variant, with_numbers(f"{where}.vary", run)) for variant, run in variants]
        studies[name] = [deduplicated(where, runs, known, variant, run) for variant, run in numbered]
    return runs, studies


def check_counts(config: Config) -> None:
    """Raise SeedbedError where studies make more runs than can be planned; they are counted before any is made."""
    every, changes, measured = len(config.runs), 0, 0
    for name, study in config.studies.items():
        runs, made = len(study.runs) or 1, []
        for values in study.vary.values():
            runs = min(runs * len(values), LARGEST_COUNT)
            made.append(runs)
        if runs > MOST_RUNS:
            key, count = "vary" if study.vary else "runs", f"{'at least ' if runs == LARGEST_COUNT else ''}{runs:,}"
            raise SeedbedError(f"config: studies.{name}.{key}: {count} runs; expected at most {MOST_RUNS:,}")
        every, changes = every + runs, changes + sum(made)
        measured += (runs + len(study.models)) * len(study.evaluate)
        for found, most, what in (
            (every, MOST_RUNS, "runs"),
            (changes, MOST_CHANGES, "values to set, one for each run and key"),
            (measured, MOST_MEASURED, "evaluations of runs and models"),
        ):
            if found > most:
                raise SeedbedError(
                    f"config: studies.{name}: {found:,} {what}, with the studies before; expected at most {most:,}"
                )


def check_models(config: Config, bases: dict[str, Run], drafts: dict[str, list[tuple[Variant, Run]]]) -> None:
    """Raise SeedbedError at the first new model that cannot be made; the facts of all are found at once."""
    asked = [(f"models.{name}", model) for name, model in config.models.items()]
    asked += [(f"runs.{name}.model", getattr(run, "model", None)) for name, run in bases.items()]
    for name, variants in drafts.items():
        asked += [(f"studies.{name}.vary.model", getattr(run, "model", None)) for _, run in variants]
    new = {}
    for where, model in asked:
        if isinstance(model, NewModel):
            new.setdefault(canonical_json(dump(model)), (where, model))
            if len(new) > MOST_MODELS:
                raise SeedbedError(f"config: {where}: one more after {MOST_MODELS} different models; expected no more")
    if (layers := sum(layers_of(model) for _, model in new.values())) > MOST_LAYERS_IN_ALL:
        raise SeedbedError(
            f"config: models: {len(new)} different ones have {layers:,} layers; expected at most {MOST_LAYERS_IN_ALL:,}"
        )
    find([dump(model) for _, model in new.values()], Path(config.results))
    for where, model in new.values():
        try:
            model.facts  # noqa: B018
        except Misfit as misfit:
            key = f".{misfit.key}" if misfit.key else ""
            raise SeedbedError(f"config: {where}{key}: {misfit.problem}") from None


def layers_of(model: NewModel) -> int:
    """The largest number of layers that a field says, as families have names of their own; more are refused apart."""
    said = [value for key, value in dump(model).items() if "layer" in key and type(value) is int]
    return max((value for value in said if value <= MOST_LAYERS), default=0)


def variants_of(
    where: str, study: Study, config: Config, bases: dict[str, Run], models: dict[str, Any]
) -> list[tuple[Variant, Run]]:
    """The runs of a study as they are written, with `auto` where they say so."""
    check_runs(where, study, config)
    if study.base:
        return varied(f"{where}.vary", study.base, bases[study.base], study.vary, models)
    return [(Variant(run, {"run": run}), bases[run]) for run in study.runs]


def check_runs(where: str, study: Study, config: Config) -> None:
    for run in [study.base] if study.base else study.runs:
        refer(f"{where}.{'base' if study.base else 'runs'}", run, config.runs, "run")


def deduplicated(where: str, runs: dict[str, Run], known: dict[Any, str], variant: Variant, run: Run) -> Variant:
    """The variant under the name of an equal run in `runs` if there is one; else the run is added there.

    `known` has the names of `runs` by content.
    """
    name = known.setdefault(content(run), variant.run)
    if name != variant.run:
        return Variant(name, variant.values)
    if runs.setdefault(name, run) != run:
        raise SeedbedError(
            f"config: {where}: two different runs would be called {variant.run!r}; choose another label or name"
        )
    return variant


def content(run: Run) -> Any:
    """What is the same for equal runs, and can be looked up."""
    return type(run), hashable(dump(run))


def hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return frozenset((key, hashable(inner)) for key, inner in value.items())
    return tuple(map(hashable, value)) if isinstance(value, list) else value


def varied(where: str, name: str, base: Run, vary: dict, models: dict[str, Any]) -> list[tuple[Variant, Run]]:
    """`base` with each combination of the values of dotted keys; names say only what differs from `base`."""
    found = [(Variant(name), base)]
    for key, values in vary.items():
        options = labelled(f"{where}.{key}", values)
        found = [one for variant, run in found for one in changed(where, variant, run, key, options, models)]
    for variant, _ in found:
        check_name(where, variant.run)
    return found


def changed(
    where: str, variant: Variant, run: Run, key: str, options: dict[str, Any], models: dict[str, Any]
) -> Iterator[tuple[Variant, Run]]:
    """A run with each of these values at one dotted key."""
    raw = run.model_dump(by_alias=True, exclude_unset=True)
    for label, value in options.items():
        made = validated(AnyRun, with_key(where, raw, key, value), f"config: {where}.{key}")
        made = made.with_models(f"{where}.{key}", models)
        name = variant.run + (f"+{key}={label}" if made != run else "")
        yield Variant(name, variant.values | {key: label}), made


def check_name(where: str, name: str) -> None:
    if not re.fullmatch(NAME, name):
        raise SeedbedError(
            f"config: {where}: {shown(name)} is not a valid name; labels have letters, digits and ._+=,- only"
        )
    if len(name) > LONGEST_NAME:
        raise SeedbedError(
            f"config: {where}: {shown(name)} has {len(name)} characters; expected at most {LONGEST_NAME}: give values "
            "short labels, {label: value}"
        )


def with_numbers(where: str, run: Run) -> Run:
    """The run with numbers in place of `auto`."""
    try:
        return run.with_numbers()
    except ValueError as error:
        raise SeedbedError(f"config: {where}: {error}") from None


def with_key(where: str, raw: dict, key: str, value: Any) -> dict:
    """`raw` with the value at a dotted key replaced."""
    head, *rest = key.split(".")
    if not rest:
        return raw | {head: value}
    inner = raw.get(head) or {}
    if not isinstance(inner, dict):
        raise SeedbedError(f"config: {where}.{key}: {head} is not a mapping")
    return raw | {head: with_key(where, inner, ".".join(rest), value)}


def labelled(where: str, values: list | dict[str, Any]) -> dict[str, Any]:
    """Values by label; plain values in a list are their own labels."""
    if isinstance(values, dict):
        return values
    for value in values:
        if isinstance(value, list | dict):
            raise SeedbedError(
                f"config: {where}: a list or mapping needs a label: found {shown(value)}, expected {{label: value}}"
            )
        if isinstance(value, int) and abs(value) > LARGEST_COUNT:
            raise SeedbedError(f"config: {where}: expected numbers up to {LARGEST_COUNT}; found {shown(value)}")
    return {label(value): value for value in values}


def label(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1000:
        return format_count(value)
    return str(value)
