# Inputs and params of contexts, from wildcards to paths and specs.


def corpus_of_contexts(wildcards):
    """Statistics of the corpus that contexts are taken from; controls have none."""
    corpus = getattr(PLAN.config.contexts[named("contexts", wildcards)], "corpus", None)
    return f"{RESULTS}/corpora/{corpus}/stats.json" if corpus else []
