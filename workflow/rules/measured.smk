# From wildcards to what is measured, and on what.


def model_of(wildcards):
    """The model of a run, or one that was trained elsewhere."""
    if wildcards.subject in PLAN.pretrained:
        return f"{RESULTS}/models/{wildcards.subject}"
    return f"{RESULTS}/runs/{wildcards.subject}/model"


def run_of(wildcards):
    """What a run says of itself; a model that was trained elsewhere says nothing."""
    return [] if wildcards.subject in PLAN.pretrained else f"{RESULTS}/runs/{wildcards.subject}/run.json"


def tokens_measured(wildcards):
    """Index of the tokens that an evaluation reads, if it reads any."""
    data = PLAN.data_measured(wildcards.subject, PLAN.config.evaluations[wildcards.evaluation])
    return f"{RESULTS}/{data}/index.json" if data else []


def contamination_of(wildcards):
    """Which questions of an evaluation occur in the corpora that a run has learned from."""
    if not getattr(PLAN.config.evaluations[wildcards.evaluation], "contamination", False):
        return []
    corpora = PLAN.training_corpora(wildcards.subject)
    return [f"{RESULTS}/contamination/{wildcards.evaluation}/{corpus}.json" for corpus in corpora]


def what_is_measured(wildcards, input):
    """The options that say so."""
    options = [f"--run {Path(input.run).parent}" if input.run else f"--model {input.model}"]
    options += [f"--tokens {Path(input.tokens).parent}"] if input.tokens else []
    options += [f"--contamination {input.contamination}"] if input.contamination else []
    return " ".join(options)


def evaluation_code(wildcards):
    """The module that measures this kind of evaluation."""
    return f"seedbed/evaluate/{PLAN.config.evaluations[wildcards.evaluation].kind}.py"


def evaluation_files(wildcards):
    """The files of an evaluation whose questions lie in a directory."""
    source = getattr(PLAN.config.evaluations[wildcards.evaluation], "source", None)
    return watched(f"evaluations.{wildcards.evaluation}", source.files) if hasattr(source, "files") else []


def model_files(wildcards):
    """The files of a model that is taken from a directory."""
    return files_in(PLAN.pretrained[wildcards.model].from_)
