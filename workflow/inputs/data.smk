# Inputs and params of corpora, from wildcards to paths and specs.


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
    return spec_file("download", {"source": source.model_dump(mode="json", exclude={"member"})})
