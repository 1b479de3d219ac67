# External models.
#
# Takes: a directory or a hub id (config `models`).
# Gives: models/<model>/: the files of an external model.
include: "../inputs/models.smk"


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
        "python {input.script:q}"
        " --model {wildcards.model:q}"
        " --spec {params.spec:q}"
        " --out {output.model:q}"
        " --log {log:q}"
