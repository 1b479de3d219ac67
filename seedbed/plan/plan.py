"""The plan of a configuration: all its runs and studies by name, expanded and checked."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from seedbed.config.fields import dump
from seedbed.config.load import Config
from seedbed.config.run import Init, Run
from seedbed.data.config import ExternalTokenizer, Tokenizer
from seedbed.data.formats import STATS, TokenizerStats
from seedbed.models.config import ExternalModel
from seedbed.models.facts import Facts, Misfit
from seedbed.models.foreign import is_directory, read_config
from seedbed.models.lookup import facts_of
from seedbed.plan.check import check_plan
from seedbed.plan.expand import Variant, expand
from seedbed.plan.trunks import Trunk, Users, by_name, grow, trunk_at, users
from seedbed.records import read_record

EXTERNAL = "causal-lm"  # the kind of subject that an external model is


@dataclass(frozen=True)
class Plan:
    """A configuration with its studies expanded; raises SeedbedError when a reference is undefined or does not fit."""

    config: Config

    def __post_init__(self) -> None:
        check_plan(self)

    @cached_property
    def expanded(self) -> tuple[dict[str, Run], dict[str, list[Variant]]]:
        return expand(self.config)

    @property
    def runs(self) -> dict[str, Run]:
        """Every run by name with its model resolved: those of `runs`, then the variants of the studies."""
        return self.expanded[0]

    @property
    def studies(self) -> dict[str, list[Variant]]:
        return self.expanded[1]

    @cached_property
    def external(self) -> dict[str, ExternalModel]:
        return {name: model for name, model in self.config.models.items() if isinstance(model, ExternalModel)}

    @cached_property
    def tokenizers(self) -> dict[str, Tokenizer]:
        """Every tokenizer by name; an external model brings its own, under its name."""
        own = {
            name: ExternalTokenizer(from_=model.from_, revision=model.revision) for name, model in self.external.items()
        }
        return self.config.tokenizers | own

    # --- runs and models as subjects of evaluations -------------------------------------------------------------------

    def subjects(self, study: str) -> list[str]:
        """Names of the runs and models that a study compares."""
        return [*self.run_names(study), *self.config.studies[study].models]

    def run_names(self, study: str) -> list[str]:
        return [variant.run for variant in self.studies[study]]

    def kind_of(self, subject: str) -> str:
        """The kind of subject that a run or model is to an evaluation."""
        return self.runs[subject].subject if subject in self.runs else EXTERNAL

    def tokenizer_of(self, subject: str) -> str:
        return subject if subject in self.external else self.runs[subject].tokenizer

    def training_corpora(self, subject: str) -> list[str]:
        """The corpora that a run and those it started from were trained on; empty for an external model."""
        found, run = [], self.runs.get(subject)
        while run:
            found += [run.corpus] if hasattr(run, "corpus") else []
            run = run.init and self.runs[run.init.run]
        return list(dict.fromkeys(found))

    # --- trunks: steps trained once for several runs ------------------------------------------------------------------

    @cached_property
    def trunks(self) -> dict[str, Trunk]:
        """The trunk that each run grows from, for those that have one."""
        known = {name: (dump(run), steps) for name, run in self.runs.items() if (steps := run.step_count())}
        wanted = [(run.init.run, run.init.step) for run in self.runs.values() if run.init and run.init.step]
        return grow(known, wanted)

    @cached_property
    def trunks_by_name(self) -> dict[str, Trunk]:
        """Every trunk, those that others grow from included."""
        return by_name(self.trunks)

    @cached_property
    def trunk_users(self) -> dict[str, Users]:
        """The runs that grow from each trunk, by the trunk's name."""
        return users(self.trunks)

    def initial_trunk(self, init: Init) -> Trunk | None:
        """The trunk that ends at the step that `init` names; None for the end of a run."""
        origin = self.runs[init.run]
        return trunk_at(dump(origin), origin.step_count(), init.step) if init.step else None

    def study_trunks(self, study: str) -> list[str]:
        """Names of the trunks that the runs of a study grow from."""
        return list(by_name({run: self.trunks[run] for run in self.run_names(study) if run in self.trunks}))

    def external_facts(self, model: str) -> Facts | None:
        """Facts of an external model; None where it is on the hub and not fetched yet, or is none for `fetch_model`."""
        places = (Path(self.config.results) / "models" / model, Path(self.external[model].from_))
        for place in places:
            if is_directory(str(place)) and (place / "config.json").is_file():
                try:
                    return facts_of({"config": read_config(place)})
                except Misfit:
                    return None
        return None

    @cached_property
    def tried(self) -> set[Any]:
        """What checks of runs have tried already and need not try for another run."""
        return set()

    # --- results of earlier stages ------------------------------------------------------------------------------------

    def stored(self, path: str, kind: type) -> dict | None:
        """What an earlier stage wrote below the results; None where it is not there yet."""
        file = Path(self.config.results) / path
        return read_record(file, kind) if file.exists() else None

    def vocabulary(self, tokenizer: str) -> int | None:
        """Size of a tokenizer's vocabulary; None for an external one that is not downloaded yet."""
        if stated := getattr(self.tokenizers[tokenizer], "vocab_size", None):
            return stated
        built = self.stored(f"tokenizers/{tokenizer}/{STATS}", TokenizerStats)
        return built and built["vocab_size"]
