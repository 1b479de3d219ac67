"""A *spec* is all that a stage reads of the configuration, as plain JSON.

It is the identity of the stage: the workflow passes it to the script and watches it for changes, so that a change
reruns exactly the stages that read it. Names of inputs are not in it: the stage is given their files.
"""

from collections.abc import Callable, Iterable

from seedbed.config.fields import dump, without
from seedbed.plan.plan import Plan

STUDY_PARTS = ("date", "title", "notes", "plots")


def corpus_spec(plan: Plan, corpus: str) -> dict:
    return dump(plan.config.corpora[corpus])


def tokenizer_spec(plan: Plan, tokenizer: str) -> dict:
    return without(dump(plan.tokenizers[tokenizer]), "corpus")


def contexts_spec(plan: Plan, contexts: str) -> dict:
    return without(dump(plan.config.contexts[contexts]), "corpus")


def model_spec(plan: Plan, model: str) -> dict:
    return dump(plan.external[model])


def run_spec(plan: Plan, run: str) -> dict:
    return plan.runs[run].spec()


def trunk_spec(plan: Plan, trunk: str) -> dict:
    """The spec of a run that ends with a trunk."""
    found = plan.trunks_by_name[trunk]
    return plan.runs[plan.grown_from(found)[0]].identity(found.spec)


def evaluation_spec(plan: Plan, evaluation: str) -> dict:
    return plan.config.evaluations[evaluation].spec()


def contamination_spec(plan: Plan, evaluation: str) -> dict:
    """What looking for the questions of an evaluation in a corpus reads of it."""
    return {"source": dump(plan.config.evaluations[evaluation])["source"]}


def study_spec(plan: Plan, study: str, parts: tuple[str, ...] = STUDY_PARTS) -> dict:
    """The runs and evaluations of a study, and those parts of what else it says."""
    config = plan.config.studies[study]
    return {
        "name": study,
        "variants": [{"run": variant.run, "values": variant.values} for variant in plan.studies[study]],
        "models": config.models,
        "trunks": plan.study_trunks(study),
        "evaluations": {name: plan.config.evaluations[name].kind for name in config.evaluate},
        **{key: value for key, value in dump(config).items() if key in parts},
    }


def study_specs(plan: Plan, parts: tuple[str, ...] = STUDY_PARTS) -> list[dict]:
    return [study_spec(plan, study, parts) for study in plan.config.studies]


# By the kind of a stage: all names that a plan has of it, and the spec of one.
SPECS: dict[str, tuple[Callable[[Plan], Iterable[str]], Callable[[Plan, str], dict]]] = {
    "corpus": (lambda plan: plan.config.corpora, corpus_spec),
    "tokenizer": (lambda plan: plan.tokenizers, tokenizer_spec),
    "contexts": (lambda plan: plan.config.contexts, contexts_spec),
    "model": (lambda plan: plan.external, model_spec),
    "run": (lambda plan: plan.runs, run_spec),
    "evaluation": (lambda plan: plan.config.evaluations, evaluation_spec),
    "study": (lambda plan: plan.config.studies, study_spec),
}
