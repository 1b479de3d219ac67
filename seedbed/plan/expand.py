"""Studies expanded to runs: one for each combination of varied values, without duplicates."""

import re
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from seedbed.config.fields import NAME, dump, format_count
from seedbed.config.load import AnyRun, Config
from seedbed.config.messages import refer, validated
from seedbed.config.run import Run
from seedbed.config.study import Study
from seedbed.errors import SeedbedError
from seedbed.models.config import NewModel
from seedbed.models.facts import Misfit
from seedbed.models.lookup import find
from seedbed.models.presets import PRESETS


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
    models = PRESETS | config.models
    bases = {name: run.with_models(f"runs.{name}", models) for name, run in config.runs.items()}
    drafts = {
        name: variants_of(f"studies.{name}", study, config, bases, models) for name, study in config.studies.items()
    }
    check_models(config, bases, drafts)
    runs, studies = {name: with_numbers(f"runs.{name}", run) for name, run in bases.items()}, {}
    for name, variants in drafts.items():
        where = f"studies.{name}"
        numbered = [(variant, with_numbers(f"{where}.vary", run)) for variant, run in variants]
        studies[name] = [deduplicated(where, runs, variant, run) for variant, run in numbered]
    return runs, studies


def check_models(config: Config, bases: dict[str, Run], drafts: dict[str, list[tuple[Variant, Run]]]) -> None:
    """Raise SeedbedError at the first new model that cannot be made; the facts of all are found at once."""
    asked = [(f"models.{name}", model) for name, model in config.models.items()]
    asked += [(f"runs.{name}.model", getattr(run, "model", None)) for name, run in bases.items()]
    for name, variants in drafts.items():
        asked += [(f"studies.{name}.vary.model", getattr(run, "model", None)) for _, run in variants]
    new = [(where, model) for where, model in asked if isinstance(model, NewModel)]
    find([dump(model) for _, model in new], Path(config.results))
    for where, model in new:
        try:
            model.facts  # noqa: B018
        except Misfit as misfit:
            key = f".{misfit.key}" if misfit.key else ""
            raise SeedbedError(f"config: {where}{key}: {misfit.problem}") from None


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


def deduplicated(where: str, runs: dict[str, Run], variant: Variant, run: Run) -> Variant:
    """The variant under the name of an equal run in `runs` if there is one; else the run is added there."""
    same = [name for name, other in runs.items() if other == run]
    if not same and variant.run in runs:
        raise SeedbedError(
            f"config: {where}: two different runs would be called {variant.run!r}; choose another label or name"
        )
    if same:
        return Variant(same[0], variant.values)
    runs[variant.run] = run
    return variant


def varied(where: str, name: str, base: Run, vary: dict, models: dict[str, Any]) -> list[tuple[Variant, Run]]:
    """`base` with each combination of the values of dotted keys."""
    options = [[(key, label, value) for label, value in labelled(values).items()] for key, values in vary.items()]
    return [variant_of(where, name, base, combination, models) for combination in product(*options)]


def variant_of(
    where: str, name: str, base: Run, changes: tuple[tuple[str, str, Any], ...], models: dict[str, Any]
) -> tuple[Variant, Run]:
    """`base` with some dotted keys changed; its name says only what differs from `base`."""
    run = base
    for key, label, value in changes:
        raw = run.model_dump(by_alias=True, exclude_unset=True)
        changed = validated(AnyRun, with_key(where, raw, key, value), f"config: {where}.{key}")
        changed = changed.with_models(f"{where}.{key}", models)
        name += f"+{key}={label}" if changed != run else ""
        run = changed
    if not re.fullmatch(NAME, name):
        raise SeedbedError(
            f"config: {where}: {name!r} is not a valid name; labels have letters, digits and ._+=,- only"
        )
    return Variant(name, {key: label for key, label, _ in changes}), run


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


def labelled(values: list | dict[str, Any]) -> dict[str, Any]:
    """Values by label; plain values in a list are their own labels."""
    if isinstance(values, dict):
        return values
    for value in values:
        if isinstance(value, list | dict):
            raise SeedbedError(
                f"config: vary: a list or mapping needs a label: found {value!r}, expected {{label: value}}"
            )
    return {label(value): value for value in values}


def label(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1000:
        return format_count(value)
    return str(value)
