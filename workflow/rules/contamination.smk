# Test questions in training corpora; which there are depends on no model.
#
# Takes: questions and a built corpus (config `evaluations`).
# Gives: contamination/<evaluation>/<corpus>.json with the questions that occur there, and .tsv with where.
include: "../inputs/contamination.smk"


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
        spec=lambda wildcards: spec_file("questions", specs.contamination_spec(PLAN, wildcards.evaluation)),
    message:
        "Looking for the questions of {wildcards.evaluation} in the corpus {wildcards.corpus}"
    shell:
        "python {input.script:q}"
        " --evaluation {wildcards.evaluation:q}"
        " --spec {params.spec:q}"
        ' --corpus "$(dirname {input.corpus:q})"'
        " --out {output.json:q}"
        " --processes {threads}"
        " --log {log:q}"
