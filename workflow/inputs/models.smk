# Inputs and params of external models, from wildcards to paths and specs.


def model_files(wildcards):
    """The files of a model that is taken from a directory."""
    return files_in(PLAN.external[named("model", wildcards)].from_)
