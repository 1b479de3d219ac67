# Byte-level BPE from a corpus, or somebody else's tokenizer.
#
# Takes: a built corpus, or a hub id or directory (config `tokenizers`).
# Gives: tokenizers/<tokenizer>/{tokenizer.json,tokenizer_config.json,stats.json}, which transformers loads.


def tokenizer_files(wildcards):
    """The files of a tokenizer that is taken from a directory."""
    return files_in(getattr(PLAN.tokenizers[named("tokenizer", wildcards)], "from_", ""))


def training_corpus(wildcards):
    """Statistics of the corpus that a tokenizer is trained on; a foreign one needs none."""
    corpus = getattr(PLAN.tokenizers[named("tokenizer", wildcards)], "corpus", None)
    return f"{RESULTS}/corpora/{corpus}/stats.json" if corpus else []


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
        corpus=lambda wildcards, input: (f"--corpus {os.path.dirname(input.corpus)}" if input.corpus else ""),
        out=lambda wildcards: f"{RESULTS}/tokenizers/{wildcards.tokenizer}",
    message:
        "Building the tokenizer {wildcards.tokenizer}"
    shell:
        "python {input.script}"
        " --tokenizer {wildcards.tokenizer:q}"
        " --spec {params.spec:q}"
        " {params.corpus}"
        " --out {params.out:q}"
        " --log {log:q}"
