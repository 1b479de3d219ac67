# Measuring trained models.
#
# Takes: a run with its tokens (config `evaluations`).
# Gives: evaluations/<run>/<evaluation>.json with the figures and .tsv with the rows behind them.


rule evaluate:
    input:
        script="scripts/evaluate.py",
        code=evaluation_code,
        files=evaluation_files,
        model=f"{RESULTS}/runs/{{run}}/model",
        run=f"{RESULTS}/runs/{{run}}/run.json",
        tokens=tokens_of,
    output:
        json=report(
            f"{RESULTS}/evaluations/{{run}}/{{evaluation}}.json",
            caption="../report/evaluation.rst",
            category="Evaluations",
            subcategory="{run}",
            labels={"evaluation": "{evaluation}", "file": "figures"},
        ),
        tsv=f"{RESULTS}/evaluations/{{run}}/{{evaluation}}.tsv",
    log:
        f"{RESULTS}/logs/evaluate/{{run}}/{{evaluation}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate/{{run}}/{{evaluation}}.tsv"
    conda:
        "../../envs/seedbed.yaml"
    threads: 16
    params:
        spec=spec("evaluation"),
    message:
        "Measuring {wildcards.evaluation} of {wildcards.run}"
    shell:
        "python {input.script}"
        " --evaluation {wildcards.evaluation:q}"
        " --spec {params.spec:q}"
        " --run $(dirname {input.run:q})"
        " --tokens $(dirname {input.tokens:q})"
        " --out {output.json:q}"
        " --threads {threads}"
        " --log {log:q}"
