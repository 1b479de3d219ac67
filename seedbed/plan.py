"""From a configuration to what is to be done: studies expanded to runs, references checked, facts derived.

A *spec* is everything that a stage reads of the configuration, as plain JSON. It is the identity of the stage: the
workflow passes it to the script and watches it for changes, so that a change reruns exactly the stages that read it.
"""

import re
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any

from seedbed.config import (
    AnyRun,
    Config,
    Evaluation,
    ForeignTokenizer,
    Plot,
    PretrainedModel,
    Study,
    Tokenizer,
    validated,
)
from seedbed.errors import SeedbedError, choices
from seedbed.evaluation_config import OnText, Reconstruction
from seedbed.fields import NAME, Strict, format_count
from seedbed.icae_config import CorpusContexts, IcaeRun
from seedbed.models.shape import Shape
from seedbed.run_config import Init, LanguageModelRun, Run
from seedbed.scaling import resolved
from seedbed.shapes import SHAPES
from seedbed.trunks import Trunk, grow, trunk_at

STUDY_PARTS = ("date", "title", "notes", "plots")
PLOTTED = {
    "receptive-field": "forgetting",
    "compression": "reconstruction",
}  # plots that are not called as the evaluation they show


@dataclass(frozen=True)
class Variant:
    """A run of a study with the values that tell it from the others, by dotted key."""

    run: str
    values: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A checked configuration with its studies expanded; raises SeedbedError when a reference leads nowhere."""

    config: Config

    def __post_init__(self) -> None:
        for name, tokenizer in self.config.tokenizers.items():
            if not isinstance(tokenizer, ForeignTokenizer):
                refer(f"tokenizers.{name}.corpus", tokenizer.corpus, self.config.corpora, "corpus")
        for name, contexts in self.config.contexts.items():
            if isinstance(contexts, CorpusContexts):
                refer(f"contexts.{name}.corpus", contexts.corpus, self.config.corpora, "corpus")
        for name, run in self.runs.items():
            self.check_run(f"runs.{name}", run)
        self.check_init_order()
        self.check_pretrained()
        for name, study in self.config.studies.items():
            self.check_study(name, study)

    @cached_property
    def runs(self) -> dict[str, Run]:
        """Every run by name with its model written out: those of `runs`, then the variants of the studies."""
        variants = [pair for pairs in self.expanded.values() for pair in pairs]
        return self.written_out | {variant.run: run for variant, run in variants}

    @cached_property
    def studies(self) -> dict[str, list[Variant]]:
        return {name: [variant for variant, _ in variants] for name, variants in self.expanded.items()}

    @cached_property
    def pretrained(self) -> dict[str, PretrainedModel]:
        """The models that were trained elsewhere."""
        return {name: model for name, model in self.config.models.items() if isinstance(model, PretrainedModel)}

    @cached_property
    def tokenizers(self) -> dict[str, Tokenizer]:
        """Every tokenizer by name; a model that was trained elsewhere brings its own, under its name."""
        own = {
            name: ForeignTokenizer(from_=model.from_, revision=model.revision)
            for name, model in self.pretrained.items()
        }
        return self.config.tokenizers | own

    @cached_property
    def bases(self) -> dict[str, Run]:
        """The runs of the configuration with the model in place of its name."""
        return {name: self.with_model(f"runs.{name}", run) for name, run in self.config.runs.items()}

    @cached_property
    def written_out(self) -> dict[str, Run]:
        """The runs of the configuration with all their values."""
        return {name: with_numbers(f"runs.{name}", run) for name, run in self.bases.items()}

    @cached_property
    def expanded(self) -> dict[str, list[tuple[Variant, Run]]]:
        known = dict(self.written_out)
        expanded = {}
        for name, study in self.config.studies.items():
            expanded[name] = [
                self.known_as(f"studies.{name}", known, *pair) for pair in self.expand(f"studies.{name}", study)
            ]
        return expanded

    @staticmethod
    def known_as(where: str, known: dict[str, Run], variant: Variant, run: Run) -> tuple[Variant, Run]:
        """Equal runs are one node: take the name under which an equal run is already there."""
        same = [name for name, other in known.items() if other == run]
        if not same and variant.run in known:
            raise SeedbedError(
                f"config: {where}: two different runs would be called {variant.run!r}; choose another label or name"
            )
        known.setdefault(variant.run, run)
        return Variant(same[0] if same else variant.run, variant.values), run

    def expand(self, where: str, study: Study) -> list[tuple[Variant, Run]]:
        """The runs of a study, one for each combination of the varied values."""
        for run in [study.base] if study.base else study.runs:
            refer(f"{where}.{'base' if study.base else 'runs'}", run, self.config.runs, "run")
        if not study.base:
            return [(Variant(run, {"run": run}), self.written_out[run]) for run in study.runs]
        base = self.bases[study.base]
        options = [
            [(key, label, value) for label, value in labelled(values).items()] for key, values in study.vary.items()
        ]
        return [self.vary(f"{where}.vary", study.base, base, combination) for combination in product(*options)]

    def vary(self, where: str, name: str, base: Run, changes: tuple) -> tuple[Variant, Run]:
        """`base` with some dotted keys changed; its name says only what differs from `base`."""
        run = base
        for key, label, value in changes:
            raw = run.model_dump(by_alias=True, exclude_unset=True)
            changed = validated(AnyRun, with_key(where, raw, key, value), f"config: {where}.{key}")
            changed = self.with_model(f"{where}.{key}", changed)
            name += f"+{key}={label}" if changed != run else ""
            run = changed
        if not re.fullmatch(NAME, name):
            raise SeedbedError(f"config: {where}: {name!r} is no name: labels have letters, digits and ._+=,- only")
        return Variant(name, {key: label for key, label, _ in changes}), with_numbers(where, run)

    def with_model(self, where: str, run: Run) -> Run:
        """The run with its model in place of a name; that of one that was trained elsewhere stays, for an ICAE."""
        if not isinstance(run.model, str):
            return run
        known = SHAPES | self.config.models
        refer(f"{where}.model", run.model, known, "model")
        if run.model not in self.pretrained:
            return run.model_copy(update={"model": known[run.model]})
        if isinstance(run, LanguageModelRun):
            raise SeedbedError(
                f"config: {where}.model: {run.model!r} was trained elsewhere; "
                "expected a model with a family, or objective icae"
            )
        return run

    def check_run(self, where: str, run: Run) -> None:
        if isinstance(run, IcaeRun):
            self.check_icae(where, run)
        else:
            self.check_language_model(where, run)
        if run.budget.tokens and run.budget.tokens < run.batch_tokens:
            raise SeedbedError(
                f"config: {where}.budget.tokens: {run.budget.tokens} is less than a batch of {run.batch_tokens} tokens"
            )

    def check_icae(self, where: str, run: IcaeRun) -> None:
        refer(f"{where}.contexts", run.contexts, self.config.contexts, "set of contexts")
        refer(f"{where}.tokenizer", run.tokenizer, self.tokenizers, "tokenizer")
        if isinstance(run.model, str):  # trained elsewhere; its positions are known when it is there
            if run.init:
                raise SeedbedError(f"config: {where}: model {run.model!r} is a base already; expected no init")
            if run.tokenizer != run.model:
                raise SeedbedError(
                    f"config: {where}.tokenizer: found {run.tokenizer!r}, expected that of its model, {run.model!r}"
                )
            return
        learned = run.model.max_position_embeddings
        if run.init:
            learned = learned or self.check_init(where, run).seq_len
        elif run.lora or run.decoder == "frozen":
            what = "lora" if run.lora else "decoder"
            raise SeedbedError(
                f"config: {where}.{what}: keeps a base that was never trained; expected init, a model that was trained "
                f"elsewhere, or {'lora: null' if run.lora else 'decoder shared or trained'}"
            )
        if run.model.family == "gpt2":
            problem = Shape.of(dump(run)).misfit("gpt2", run.seq_len, run.continuation, learned)
            if problem:
                raise SeedbedError(f"config: {where}: {problem}")

    def check_language_model(self, where: str, run: LanguageModelRun) -> None:
        refer(f"{where}.corpus", run.corpus, self.config.corpora, "corpus")
        refer(f"{where}.tokenizer", run.tokenizer, self.config.tokenizers, "tokenizer")
        if run.init:
            origin = self.check_init(where, run)
            self.check_init_step(f"{where}.init.step", run.init, origin)
            if run.model.family == "gpt2" and run.seq_len > (run.model.n_positions or origin.seq_len):
                raise SeedbedError(
                    f"config: {where}: seq_len {run.seq_len} does not fit the {origin.seq_len} positions that "
                    f"{run.init.run!r} has learned"
                )
        if run.recurrence and run.model.family != "llama":
            raise SeedbedError(
                f"config: {where}.recurrence: needs rotary positions; found family {run.model.family!r}, expected llama"
            )
        self.check_split(where, run.corpus, "valid")
        positions = run.model.max_position_embeddings
        if positions is not None and positions < run.seq_len:
            raise SeedbedError(
                f"config: {where}: seq_len {run.seq_len} does not fit the {positions} positions of its model"
            )

    def check_init(self, where: str, run: Run) -> Run:
        """The run that this one starts from; raises where it cannot."""
        refer(f"{where}.init.run", run.init.run, self.runs, "run")
        origin = self.runs[run.init.run]
        if not isinstance(origin, LanguageModelRun):
            raise SeedbedError(
                f"config: {where}.init: {run.init.run!r} is no language model; expected one to start from"
            )
        for key in ("model", "tokenizer"):
            if getattr(run, key) != getattr(origin, key):
                raise SeedbedError(f"config: {where}.init: {run.init.run!r} has another {key}; expected the same")
        return origin

    def check_init_step(self, where: str, init: Init, origin: Run) -> None:
        if init.step is None:
            return
        steps = self.step_count(origin)
        if steps is None:
            raise SeedbedError(f"config: {where}: the steps of {init.run!r} are not known; expected a budget in tokens")
        if init.step > steps:
            raise SeedbedError(f"config: {where}: {init.run!r} has {steps} steps; found {init.step}")

    def check_split(self, where: str, corpus: str, split: str) -> None:
        if split != "train" and not getattr(self.config.corpora[corpus].split, split):
            raise SeedbedError(f"config: {where}: needs the {split} split; corpora.{corpus}.split.{split} is 0")

    def check_init_order(self) -> None:
        """Raise when runs start from each other in a circle."""
        for name in self.runs:
            chain = [name]
            while (run := self.runs[chain[-1]]).init:
                chain.append(run.init.run)
                if chain[-1] in chain[:-1]:
                    raise SeedbedError(f"config: runs.{name}.init: cyclic: {' -> '.join(chain)}")

    def check_pretrained(self) -> None:
        """Raise where a name stands for two things whose results would lie in one place."""
        for name in self.pretrained:
            for what, others in (("run", self.runs), ("tokenizer", self.config.tokenizers)):
                if name in others:
                    raise SeedbedError(f"config: models.{name}: a {what} is called so, too; expected another name")

    def check_study(self, name: str, study: Study) -> None:
        where = f"studies.{name}"
        for model in study.models:
            refer(f"{where}.models", model, self.pretrained, "model that was trained elsewhere")
        for evaluation in study.evaluate:
            refer(f"{where}.evaluate", evaluation, self.config.evaluations, "evaluation")
            for subject in self.study_subjects(name):
                self.check_evaluation(f"evaluations.{evaluation}", subject, self.config.evaluations[evaluation])
        for index, plot in enumerate(study.plots):
            self.check_plot(f"{where}.plots.{index}", study, plot)

    def check_evaluation(self, where: str, subject: str, evaluation: Evaluation) -> None:
        """Raise where an evaluation is not for such a subject, or needs text that is not there."""
        run, compresses = self.runs.get(subject), isinstance(evaluation, Reconstruction)
        if isinstance(run, IcaeRun) != compresses:
            fits = "in-context autoencoders" if compresses else "language models"
            raise SeedbedError(f"config: {where}: kind {evaluation.kind!r} measures {fits}; {subject!r} is none")
        if compresses:
            self.check_reconstruction(where, subject, run, evaluation)
        if not isinstance(evaluation, OnText):
            return
        if evaluation.corpus is None and subject in self.pretrained:
            raise SeedbedError(f"config: {where}.corpus: missing; {subject!r} was trained elsewhere and has no own one")
        corpus = self.corpus_of(subject, evaluation)
        refer(f"{where}.corpus", corpus, self.config.corpora, "corpus")
        for split in getattr(evaluation, "splits", None) or [evaluation.split]:
            self.check_split(where, corpus, split)

    def check_reconstruction(self, where: str, subject: str, run: IcaeRun, evaluation: Reconstruction) -> None:
        contexts = evaluation.contexts or run.contexts
        refer(f"{where}.contexts", contexts, self.config.contexts, "set of contexts")
        shortest = min(evaluation.lengths or [run.seq_len])
        if shortest < run.memory_tokens:
            raise SeedbedError(
                f"config: {where}.lengths: a context of {shortest} tokens is shorter than the memory of {subject!r}, "
                f"{run.memory_tokens}"
            )

    def check_plot(self, where: str, study: Study, plot: Plot) -> None:
        if plot.kind == "loss":
            if not (study.base or study.runs):
                raise SeedbedError(f"config: {where}: a plot of the loss needs runs; this study has models only")
            return
        refer(f"{where}.evaluation", plot.evaluation, study.evaluate, "evaluation of this study")
        kind, needed = self.config.evaluations[plot.evaluation].kind, PLOTTED.get(plot.kind, plot.kind)
        if kind != needed:
            raise SeedbedError(
                f"config: {where}: a plot of kind {plot.kind!r} needs an evaluation of kind {needed!r}; "
                f"{plot.evaluation!r} is of kind {kind!r}"
            )

    # --- trunks: what is trained once for several runs ----------------------------------------------------------------

    @staticmethod
    def step_count(run: Run) -> int | None:
        """Updates of a run; None for epochs of a corpus that is not counted yet."""
        return run.budget.step_count(run.batch_tokens)

    @cached_property
    def trunks(self) -> dict[str, Trunk]:
        """The trunk that each run grows from, for those that have one."""
        known = {name: (dump(run), steps) for name, run in self.runs.items() if (steps := self.step_count(run))}
        wanted = [(run.init.run, run.init.step) for run in self.runs.values() if run.init and run.init.step]
        return grow(known, wanted)

    @cached_property
    def trunks_by_name(self) -> dict[str, Trunk]:
        """Every trunk, those that others grow from included."""
        return {trunk.name: trunk for last in self.trunks.values() for trunk in last.chain}

    def initial_trunk(self, init: Init) -> Trunk | None:
        """The trunk that ends where another run starts from, unless that is the end of a run."""
        origin = self.runs[init.run]
        return trunk_at(dump(origin), self.step_count(origin), init.step) if init.step else None

    # --- subjects: what is evaluated ----------------------------------------------------------------------------------

    def study_subjects(self, study: str) -> list[str]:
        """Names of the runs and models that a study compares."""
        return [*(variant.run for variant in self.studies[study]), *self.config.studies[study].models]

    def corpus_of(self, subject: str, evaluation: Evaluation) -> str | None:
        """The corpus that an evaluation measures a run or model on; None for evaluations without one."""
        if not isinstance(evaluation, OnText):
            return None
        return evaluation.corpus or self.runs[subject].corpus

    def data_measured(self, subject: str, evaluation: Evaluation) -> str | None:
        """Where the tokens lie that an evaluation reads, below the results; None where it reads none."""
        if isinstance(evaluation, Reconstruction):
            return f"contexts/{evaluation.contexts or self.runs[subject].contexts}/{self.tokenizer_of(subject)}"
        corpus = self.corpus_of(subject, evaluation)
        return corpus and f"tokens/{corpus}/{self.tokenizer_of(subject)}"

    def tokenizer_of(self, subject: str) -> str:
        return subject if subject in self.pretrained else self.runs[subject].tokenizer

    def training_corpora(self, subject: str) -> list[str]:
        """The corpora that a run and those it started from have learned from; none are known of a model."""
        found, run = [], self.runs.get(subject)
        while run:
            found.append(run.corpus)
            run = run.init and self.runs[run.init.run]
        return list(dict.fromkeys(found))

    # --- specs: what each stage reads ---------------------------------------------------------------------------------

    def corpus_spec(self, corpus: str) -> dict:
        return dump(self.config.corpora[corpus])

    def tokenizer_spec(self, tokenizer: str) -> dict:
        """The tokenizer without the name of its corpus, whose files the stage is given."""
        return without(dump(self.tokenizers[tokenizer]), "corpus")

    def contexts_spec(self, contexts: str) -> dict:
        """The contexts without the name of their corpus, whose files the stage is given."""
        return without(dump(self.config.contexts[contexts]), "corpus")

    def run_spec(self, run: str) -> dict:
        return training_spec(dump(self.runs[run]))

    def trunk_spec(self, trunk: str) -> dict:
        return training_spec(self.trunks_by_name[trunk].spec)

    def evaluation_spec(self, evaluation: str) -> dict:
        """The evaluation without the names of its inputs and what other stages read of it."""
        return without(dump(self.config.evaluations[evaluation]), "corpus", "contexts", "contamination")

    def contamination_spec(self, evaluation: str) -> dict:
        return {"source": dump(self.config.evaluations[evaluation])["source"]}

    def model_spec(self, model: str) -> dict:
        return dump(self.pretrained[model])

    def study_spec(self, study: str, parts: tuple[str, ...] = STUDY_PARTS) -> dict:
        """The runs and evaluations of a study, and those parts of what else it says."""
        config = self.config.studies[study]
        return {
            "name": study,
            "variants": [{"run": variant.run, "values": variant.values} for variant in self.studies[study]],
            "models": config.models,
            "trunks": self.study_trunks(study),
            "evaluations": {name: self.config.evaluations[name].kind for name in config.evaluate},
            **{key: value for key, value in dump(config).items() if key in parts},
        }

    def study_trunks(self, study: str) -> list[str]:
        """Names of the trunks below the runs of a study."""
        last = [self.trunks[variant.run] for variant in self.studies[study] if variant.run in self.trunks]
        return list(dict.fromkeys(trunk.name for one in last for trunk in one.chain))

    def study_specs(self, parts: tuple[str, ...] = STUDY_PARTS) -> list[dict]:
        return [self.study_spec(study, parts) for study in self.config.studies]


def with_numbers(where: str, run: Run) -> Run:
    """The run with numbers in place of `auto`."""
    try:
        return resolved(run)
    except ValueError as error:
        raise SeedbedError(f"config: {where}: {error}") from None


def training_spec(run: dict) -> dict:
    """A dumped run without the names of its inputs, whose files the stage is given."""
    init = run["init"] and without(run["init"], "run")
    model = None if isinstance(run["model"], str) else run["model"]  # one that was trained elsewhere
    return without(run, "corpus", "contexts", "tokenizer") | {"model": model, "init": init}


def data_of(run: dict) -> str:
    """Where the tokens lie that a dumped run learns from, below the results."""
    if "contexts" in run:
        return f"contexts/{run['contexts']}/{run['tokenizer']}"
    return f"tokens/{run['corpus']}/{run['tokenizer']}"


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
    """Values by the label that names them; a list of plain values labels itself."""
    if isinstance(values, dict):
        return values
    for value in values:
        if isinstance(value, list | dict):
            raise SeedbedError(
                f"config: vary: a value that is not a plain one needs a label: write {{label: value}}, found {value!r}"
            )
    return {label(value): value for value in values}


def label(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1000:
        return format_count(value)
    return str(value)


def refer(where: str, name: str, defined: Any, what: str) -> None:
    if name not in defined:
        raise SeedbedError(f"config: {where}: no {what} is called {name!r}{choices(name, defined)}")


def dump(model: Strict) -> dict:
    return model.model_dump(mode="json", by_alias=True)


def without(mapping: dict, *keys: str) -> dict:
    return {key: value for key, value in mapping.items() if key not in keys}
