# Byte-level BPE from a corpus, or somebody else's tokenizer.
#
# Takes: a built corpus, or a hub id or directory (config `tokenizers`).
# Gives: tokenizers/<tokenizer>/{tokenizer.json,tokenizer_config.json,stats.json}, which transformers loads.
include: "../inputs/tokenizer.smk"


rule build_tokenizer:
    input:
        script=ancient(code("scripts/build_tokenizer.py")),
        corpus=training_corpus,
        files=tokenizer_files,
    output:
        tokenizer=f"{RESULTS}/tokenizers/{{tokenizer}}/tokenizer.json",
        config=f"{RESULTS}/tokenizers/{{tokenizer}}/tokenizer_config.json",
        stats=f"{RESULTS}/tokenizers/{{tokenizer}}/stats.json",
    log:
        f"{RESULTS}/logs/build_tokenizer/{{tokenizer}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/build_tokenizer/{{tokenizer}}.tsv"
    conda:
        "../../envs/seedbed.yaml"
    threads: 16
    params:
        spec=spec("tokenizer"),
        corpus=lambda wildcards, input: ["--corpus", os.path.dirname(input.corpus)] if input.corpus else [],
        out=lambda wildcards: f"{RESULTS}/tokenizers/{wildcards.tokenizer}",
    message:
        "Building the tokenizer {wildcards.tokenizer}"
    shell:
        "python {input.script:q}"
        " --tokenizer {wildcards.tokenizer:q}"
        " --spec {params.spec:q}"
        " {params.corpus:q}"
        " --out {params.out:q}"
        " --log {log:q}"
