# From wildcards to paths and specs.
#
# A spec is all that a stage reads of the configuration, as JSON. As a param it makes exactly the stages that read a
# changed key run again. How a run is computed comes by resources and threads, which trigger nothing.


def spec(kind):
    """A params function: the spec that the wildcard of that name picks, as JSON."""

    def of(wildcards):
        return canonical_json(getattr(PLAN, f"{kind}_spec")(wildcards[kind]))

    return of


def study_part(*parts):
    """A params function: a study with those parts that a rule reads, as JSON."""

    def of(wildcards):
        return canonical_json(PLAN.study_spec(wildcards.study, parts))

    return of


def downloaded(wildcards):
    """The file that a package or url source is downloaded to; other sources have none."""
    source = PLAN.config.corpora[wildcards.corpus].source
    return f"{RESULTS}/downloads/{source.file_name}" if hasattr(source, "sha256") else []


def watched(where, files):
    """Local files to watch for changes, while there are at most 1000 of them."""
    try:
        paths = local_files(files)
    except SeedbedError as error:
        sys.exit(f"error: {where}: {error}")
    return [str(path) for path in paths] if len(paths) <= 1000 else []


def corpus_files(wildcards):
    """The files of a corpus whose source is local, and those of its splits that have local sources of their own."""
    corpus = PLAN.config.corpora[wildcards.corpus]
    sources = {"source": corpus.source, "split.valid": corpus.split.valid, "split.test": corpus.split.test}
    local = {key: source.files for key, source in sources.items() if hasattr(source, "files")}
    return [path for key, files in local.items() for path in watched(f"corpora.{wildcards.corpus}.{key}", files)]


def tokenizer_files(wildcards):
    """The files of a tokenizer that is taken from a directory."""
    return files_in(getattr(PLAN.tokenizers[wildcards.tokenizer], "from_", ""))


def files_in(folder):
    """The files of a directory; a hub id has none."""
    return [str(path) for path in sorted(Path(folder).glob("*")) if path.is_file()] if folder else []


def download_spec(wildcards):
    """The source that is downloaded to this file, as a corpus with nothing else; corpora may share one."""
    sources = [corpus.source for corpus in PLAN.config.corpora.values() if hasattr(corpus.source, "sha256")]
    source, *_ = [source for source in sources if source.file_name == wildcards.file]
    return canonical_json({"source": source.model_dump(mode="json", exclude={"member"})})


def training_corpus(wildcards):
    """Statistics of the corpus that a tokenizer is trained on; a foreign one needs none."""
    corpus = getattr(PLAN.tokenizers[wildcards.tokenizer], "corpus", None)
    return f"{RESULTS}/corpora/{corpus}/stats.json" if corpus else []


def tokens_of(wildcards):
    """Index of the tokens that a run learns from."""
    return f"{RESULTS}/{data_of(dump(PLAN.runs[wildcards.run]))}/index.json"


def tokenizer_of_run(wildcards):
    return f"{RESULTS}/tokenizers/{PLAN.runs[wildcards.run].tokenizer}/tokenizer.json"


def corpus_of_contexts(wildcards):
    """Statistics of the corpus that contexts are taken from; controls have none."""
    corpus = getattr(PLAN.config.contexts[wildcards.contexts], "corpus", None)
    return f"{RESULTS}/corpora/{corpus}/stats.json" if corpus else []


def results_of(*files):
    """An input function: these files of every run of a study, and the evaluations of its runs and models."""

    def of(wildcards):
        runs = [variant.run for variant in PLAN.studies[wildcards.study]]
        subjects, names = PLAN.study_subjects(wildcards.study), PLAN.config.studies[wildcards.study].evaluate
        paths = [f"{RESULTS}/runs/{run}/{file}" for run in runs for file in files]
        paths += [trunk_folder(PLAN.trunks_by_name[name]) for name in PLAN.study_trunks(wildcards.study)]
        return paths + [f"{RESULTS}/evaluations/{subject}/{name}.json" for subject in subjects for name in names]

    return of
