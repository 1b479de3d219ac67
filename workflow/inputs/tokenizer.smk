# Inputs and params of tokenizers, from wildcards to paths and specs.


def tokenizer_files(wildcards):
    """The files of a tokenizer that is taken from a directory."""
    return files_in(getattr(PLAN.tokenizers[named("tokenizer", wildcards)], "from_", ""))


def training_corpus(wildcards):
    """Statistics of the corpus that a tokenizer is trained on; a foreign one needs none."""
    corpus = getattr(PLAN.tokenizers[named("tokenizer", wildcards)], "corpus", None)
    return f"{RESULTS}/corpora/{corpus}/stats.json" if corpus else []
