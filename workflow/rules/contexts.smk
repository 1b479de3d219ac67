# Long documents as token shards.
#
# Takes: a built corpus, or nothing for a control, and a tokenizer (config `contexts`).
# Gives: contexts/<contexts>/<tokenizer>/{shards/,index.json}.
include: "../inputs/contexts.smk"


rule build_contexts:
    input:
        script=ancient(code("scripts/build_contexts.py")),
        corpus=corpus_of_contexts,
        tokenizer=f"{RESULTS}/tokenizers/{{tokenizer}}/tokenizer.json",
    output:
        shards=directory(f"{RESULTS}/contexts/{{contexts}}/{{tokenizer}}/shards"),
        index=f"{RESULTS}/contexts/{{contexts}}/{{tokenizer}}/index.json",
    log:
        f"{RESULTS}/logs/build_contexts/{{contexts}}/{{tokenizer}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/build_contexts/{{contexts}}/{{tokenizer}}.tsv"
    conda:
        "../../envs/seedbed.yaml"
    threads: 16
    params:
        spec=spec("contexts"),
        corpus=lambda wildcards, input: ["--corpus", os.path.dirname(input.corpus)] if input.corpus else [],
    message:
        "Preparing the contexts {wildcards.contexts} with the tokenizer {wildcards.tokenizer}"
    shell:
        "python {input.script:q}"
        " --contexts {wildcards.contexts:q}"
        " --spec {params.spec:q}"
        " {params.corpus:q}"
        ' --tokenizer "$(dirname {input.tokenizer:q})"'
        ' --out "$(dirname {output.index:q})"'
        " --processes {threads}"
        " --log {log:q}"
