# Measuring models.
#
# Takes: a run, or an external model, with the tokens to measure it on (config `evaluations`, `models`).
# Gives: evaluations/<run or model>/<evaluation>.json with the figures and .tsv with the rows behind them.
include: "../inputs/evaluate.smk"


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
        "python {input.script:q}"
        " --evaluation {wildcards.evaluation:q}"
        " --spec {params.spec:q}"
        " {params.what:q}"
        " {params.inputs:q}"
        " --out {output.json:q}"
        " --batch-tokens {resources.batch_tokens:q}"
        " --threads {threads}"
        " --log {log:q}"
