"""Checks that every reference of a plan leads to something that exists and fits."""

from typing import TYPE_CHECKING

from seedbed.config.messages import refer
from seedbed.config.study import PLOTS, Plot, Study
from seedbed.data.config import CorpusContexts, TrainedTokenizer
from seedbed.errors import SeedbedError

if TYPE_CHECKING:
    from seedbed.plan.plan import Plan


def check_plan(plan: "Plan") -> None:
    """Raise SeedbedError, with the path of the key, at the first reference that is undefined or does not fit."""
    for name, tokenizer in plan.config.tokenizers.items():
        if isinstance(tokenizer, TrainedTokenizer):
            refer(f"tokenizers.{name}.corpus", tokenizer.corpus, plan.config.corpora, "corpus")
    for name, contexts in plan.config.contexts.items():
        if isinstance(contexts, CorpusContexts):
            refer(f"contexts.{name}.corpus", contexts.corpus, plan.config.corpora, "corpus")
    for name, run in plan.runs.items():
        run.check(f"runs.{name}", plan)
    check_init_order(plan)
    check_external(plan)
    for name, study in plan.config.studies.items():
        check_study(plan, name, study)


def check_init_order(plan: "Plan") -> None:
    """Raise SeedbedError when runs start from each other in a cycle."""
    ending = set()  # runs whose chain is known to end
    for name in plan.runs:
        chain, run = {name: None}, plan.runs[name]
        while run.init and run.init.run not in ending:
            if run.init.run in chain:
                raise SeedbedError(f"config: runs.{name}.init: cyclic: {' -> '.join([*chain, run.init.run])}")
            chain[run.init.run], run = None, plan.runs[run.init.run]
        ending.update(chain)


def check_external(plan: "Plan") -> None:
    """Raise SeedbedError where an external model has the name of something with the same result path."""
    for name in plan.external:
        for what, others in (("run", plan.runs), ("tokenizer", plan.config.tokenizers)):
            if name in others:
                raise SeedbedError(f"config: models.{name}: a {what} has this name; expected another one")


def check_study(plan: "Plan", name: str, study: Study) -> None:
    where = f"studies.{name}"
    for model in study.models:
        refer(f"{where}.models", model, plan.external, "external model")
    for evaluation in dict.fromkeys(study.evaluate):
        refer(f"{where}.evaluate", evaluation, plan.config.evaluations, "evaluation")
        for subject in plan.subjects(name):
            check_evaluation(plan, evaluation, subject)
    for index, plot in enumerate(study.plots):
        check_plot(plan, f"{where}.plots.{index}", study, plot)


def check_evaluation(plan: "Plan", name: str, subject: str) -> None:
    """Raise SeedbedError where an evaluation cannot measure a run or model."""
    where, evaluation = f"evaluations.{name}", plan.config.evaluations[name]
    found = plan.kind_of(subject)
    if evaluation.subject != found:
        raise SeedbedError(
            f"config: {where}: measures models of kind {evaluation.subject!r}; {subject!r} is of kind {found!r}"
        )
    evaluation.check(where, subject, plan)


def check_plot(plan: "Plan", where: str, study: Study, plot: Plot) -> None:
    if plot.kind not in PLOTS:
        if not (study.base or study.runs):
            raise SeedbedError(f"config: {where}: a plot of the {plot.kind} needs runs; this study has models only")
        return
    refer(f"{where}.evaluation", plot.evaluation, study.evaluate, "evaluation of this study")
    kind, needed = plan.config.evaluations[plot.evaluation].kind, PLOTS[plot.kind]
    if kind != needed:
        raise SeedbedError(
            f"config: {where}: a plot of kind {plot.kind!r} needs an evaluation of kind {needed!r}; "
            f"{plot.evaluation!r} is of kind {kind!r}"
        )
