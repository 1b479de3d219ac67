# Measuring models.
#
# Takes: a run, or a model that was trained elsewhere, with the tokens to measure it on (config `evaluations`, `models`).
# Gives: evaluations/<run or model>/<evaluation>.json with the figures and .tsv with the rows behind them.
#        models/<model>/: the files of a model that was trained elsewhere.
#        contamination/<evaluation>/<corpus>.json: which questions occur in a training corpus.


rule fetch_model:
    input:
        script="scripts/fetch_model.py",
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
        script="scripts/find_contamination.py",
        code="seedbed/evaluate/contamination.py",
        files=evaluation_files,
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
        spec=lambda wildcards: canonical_json(PLAN.contamination_spec(wildcards.evaluation)),
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
        script="scripts/evaluate.py",
        code=evaluation_code,
        files=evaluation_files,
        model=model_of,
        run=run_of,
        tokens=tokens_measured,
        contamination=contamination_of,
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
    message:
        "Measuring {wildcards.evaluation} of {wildcards.subject}"
    shell:
        "python {input.script}"
        " --evaluation {wildcards.evaluation:q}"
        " --spec {params.spec:q}"
        " {params.what}"
        " --out {output.json:q}"
        " --batch-tokens {resources.batch_tokens}"
        " --threads {threads}"
        " --log {log:q}"
