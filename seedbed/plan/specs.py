"""Specs: everything that a stage reads from the configuration, as plain JSON.

A spec is the identity of its stage: the workflow passes it to the script and watches it for changes, so that a change
reruns exactly the stages that depend on it. Names of inputs are not in it: the stage gets their files.
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
    return plan.runs[plan.trunk_users[trunk].first[0]].identity(found.spec)


def evaluation_spec(plan: Plan, evaluation: str) -> dict:
    return plan.config.evaluations[evaluation].spec()


def contamination_spec(plan: Plan, evaluation: str) -> dict:
    """The part of an evaluation that the search for its questions in a corpus depends on."""
    return {"source": dump(plan.config.evaluations[evaluation])["source"]}


def study_spec(plan: Plan, study: str, parts: tuple[str, ...] = STUDY_PARTS) -> dict:
    """The runs and evaluations of a study, and the values of its keys `parts`."""
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


# By kind of stage: the names that a plan has of it, and the spec of one.
SPECS: dict[str, tuple[Callable[[Plan], Iterable[str]], Callable[[Plan, str], dict]]] = {
    "corpus": (lambda plan: plan.config.corpora, corpus_spec),
    "tokenizer": (lambda plan: plan.tokenizers, tokenizer_spec),
    "contexts": (lambda plan: plan.config.contexts, contexts_spec),
    "model": (lambda plan: plan.external, model_spec),
    "run": (lambda plan: plan.runs, run_spec),
    "evaluation": (lambda plan: plan.config.evaluations, evaluation_spec),
    "study": (lambda plan: plan.config.studies, study_spec),
}
