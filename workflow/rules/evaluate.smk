# Measuring models.
#
# Takes: a run, or an external model, with the tokens to measure it on (config `evaluations`, `models`).
# Gives: evaluations/<run or model>/<evaluation>.json with the figures and .tsv with the rows behind them.
#        models/<model>/: the files of an external model.
#        contamination/<evaluation>/<corpus>.json: which questions occur in a training corpus.

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
    known("run or model", wildcards.subject, [*PLAN.runs, *PLAN.external])
    with mistakes_told():
        check_evaluation(PLAN, wildcards.evaluation, wildcards.subject)
    found = evaluation.inputs(wildcards.evaluation, wildcards.subject, PLAN)
    return {
        name: [f"{RESULTS}/{path}" for path in ([paths] if isinstance(paths, str) else paths)]
        for name, paths in found.items()
    }


def what_is_measured(wildcards, input):
    """The option that says so."""
    return f"--run {Path(input.run).parent}" if input.run else f"--model {input.model}"


def evaluation_code(wildcards):
    """The code that measures this kind of evaluation, and that which opens what it measures."""
    return code_of(*modules_of(PLAN.config.evaluations[wildcards.evaluation].kind))


def evaluation_files(wildcards):
    """The local files that an evaluation reads, such as its questions."""
    files = PLAN.config.evaluations[named("evaluation", wildcards)].files()
    return watched(f"evaluations.{wildcards.evaluation}", files) if files else []


def question_files(wildcards):
    """The local files with the questions that are looked for in a corpus."""
    having = [name for name, evaluation in PLAN.config.evaluations.items() if hasattr(evaluation, "source")]
    known("evaluation with questions", wildcards.evaluation, having)
    return evaluation_files(wildcards)


def model_files(wildcards):
    """The files of a model that is taken from a directory."""
    return files_in(PLAN.external[named("model", wildcards)].from_)


rule fetch_model:
    input:
        script=code("scripts/fetch_model.py"),
        files=model_files,
    output:
        model=directory(f"{RESULTS}/models/{{model}}"),
    log:
        f"{RESULTS}/logs/fetch_model/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fetch_model/{{model}}.tsv"
    conda:
        "../../envs/seedbed.yaml"
    params:
        spec=spec("model"),
    message:
        "Fetching {wildcards.model}"
    shell:
        "python {input.script}"
        " --model {wildcards.model:q}"
        " --spec {params.spec:q}"
        " --out {output.model:q}"
        " --log {log:q}"


rule find_contamination:
    input:
        script=code("scripts/find_contamination.py"),
        code=code_of("seedbed.evaluate.cmmlu.contamination"),
        files=question_files,
        corpus=f"{RESULTS}/corpora/{{corpus}}/stats.json",
    output:
        json=f"{RESULTS}/contamination/{{evaluation}}/{{corpus}}.json",
        tsv=f"{RESULTS}/contamination/{{evaluation}}/{{corpus}}.tsv",
    log:
        f"{RESULTS}/logs/find_contamination/{{evaluation}}/{{corpus}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/find_contamination/{{evaluation}}/{{corpus}}.tsv"
    conda:
        "../../envs/seedbed.yaml"
    threads: 16
    params:
        spec=lambda wildcards: canonical_json(specs.contamination_spec(PLAN, wildcards.evaluation)),
    message:
        "Looking for the questions of {wildcards.evaluation} in the corpus {wildcards.corpus}"
    shell:
        "python {input.script}"
        " --evaluation {wildcards.evaluation:q}"
        " --spec {params.spec:q}"
        " --corpus $(dirname {input.corpus:q})"
        " --out {output.json:q}"
        " --processes {threads}"
        " --log {log:q}"


rule evaluate:
    input:
        unpack(evaluation_inputs),
        script=code("scripts/evaluate.py"),
        code=evaluation_code,
        files=evaluation_files,
        model=model_of,
        run=run_of,
    output:
        json=report(
            f"{RESULTS}/evaluations/{{subject}}/{{evaluation}}.json",
            caption="../report/evaluation.rst",
            category="Evaluations",
            subcategory="{subject}",
            labels={"evaluation": "{evaluation}", "file": "figures"},
        ),
        tsv=f"{RESULTS}/evaluations/{{subject}}/{{evaluation}}.tsv",
    log:
        f"{RESULTS}/logs/evaluate/{{subject}}/{{evaluation}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate/{{subject}}/{{evaluation}}.tsv"
    conda:
        "../../envs/seedbed.yaml"
    threads: 16
    resources:
        batch_tokens=0,
    params:
        spec=spec("evaluation"),
        what=what_is_measured,
        inputs=named_inputs,
    message:
        "Measuring {wildcards.evaluation} of {wildcards.subject}"
    shell:
        "python {input.script}"
        " --evaluation {wildcards.evaluation:q}"
        " --spec {params.spec:q}"
        " {params.what}"
        " {params.inputs}"
        " --out {output.json:q}"
        " --batch-tokens {resources.batch_tokens}"
        " --threads {threads}"
        " --log {log:q}"
