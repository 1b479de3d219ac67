# Inputs and params of evaluations: what is measured, on what, from wildcards to paths and specs.
from collections import ChainMap

from seedbed.evaluate.job import modules_of


def model_of(wildcards):
    """The model of a run, or an external one."""
    if wildcards.subject in PLAN.external:
        return f"{RESULTS}/models/{wildcards.subject}"
    return f"{RESULTS}/runs/{wildcards.subject}/model"


def run_of(wildcards):
    """What a run says of itself; an external model says nothing."""
    return [] if wildcards.subject in PLAN.external else f"{RESULTS}/runs/{wildcards.subject}/run.json"


def evaluation_inputs(wildcards):
    """What an evaluation of a run or model reads besides it, by name."""
    evaluation = PLAN.config.evaluations[named("evaluation", wildcards)]
    known("run or model", wildcards.subject, ChainMap(PLAN.runs, PLAN.external))
    with mistakes_reported():
        check_evaluation(PLAN, wildcards.evaluation, wildcards.subject)
    found = evaluation.inputs(wildcards.evaluation, wildcards.subject, PLAN)
    return {
        name: [f"{RESULTS}/{path}" for path in ([paths] if isinstance(paths, str) else paths)]
        for name, paths in found.items()
    }


def what_is_measured(wildcards, input):
    """The option that says so."""
    return ["--run", os.path.dirname(input.run)] if input.run else ["--model", input.model]


def evaluation_code(wildcards):
    """The code that measures this kind of evaluation, and that which opens what it measures."""
    return code_of(*modules_of(PLAN.config.evaluations[wildcards.evaluation].kind))


def evaluation_files(wildcards):
    """The local files that an evaluation reads, such as its questions."""
    files = PLAN.config.evaluations[named("evaluation", wildcards)].files()
    return watched(f"evaluations.{wildcards.evaluation}", files) if files else []
