# What inputs and params of several stages are made with.
from seedbed.models.foreign import is_directory
from seedbed.files import canonical_json, sha256_of, write_text
from snakemake.exceptions import WorkflowError
from snakemake.io import contains_wildcard


def literal(path):
    """A path that Snakemake takes as it is written; the workflow ends where it would fill in a wildcard."""
    with mistakes_reported():
        if contains_wildcard(path):
            raise SeedbedError(f"{path}: Snakemake takes what is in braces for a wildcard; expected a path without")
    return path


def spec_file(kind, value):
    """The path of the file with a spec, which its content names.

    Snakemake evaluates params of jobs that it only plans, too, and once more when a job is about to start, be it here
    or in the process of a cluster job. Only then there is a scheduler, and the file is written.
    """
    text = canonical_json(value)
    path = Path(RESULTS, "specs", f"{kind}-{sha256_of(value)[:16]}.json")
    if workflow.scheduler and not (workflow.dryrun or workflow.touch):
        try:
            if not (path.is_file() and path.read_bytes() == text.encode()):
                write_text(path, text)
        except OSError as error:
            raise WorkflowError(f"error: {error.filename}: {error.strerror}") from None
    return str(path)


def spec(kind):
    """A params function: the file with the spec that the wildcard of that name picks.

    A spec is all that a stage reads of the configuration. As a param it makes exactly the stages that read a changed key
    run again. How a stage is computed comes by resources and threads, which trigger nothing.
    """

    def of(wildcards):
        return spec_file(kind, specs.SPECS[kind][1](PLAN, wildcards[kind]))

    return of


def watched(where, files):
    """Local files to watch for changes, while there are at most 1000 of them."""
    with mistakes_reported(where):
        paths = local_files(files)
    return [literal(str(path)) for path in paths] if len(paths) <= 1000 else []


def files_in(folder):
    """The files of a directory; a hub id has none."""
    inside = sorted(Path(folder).glob("*")) if folder and is_directory(folder) else []
    return [literal(str(path)) for path in inside if path.is_file()]


def named_inputs(wildcards, input):
    """The words that name the inputs of a job, for those functions that return them by name."""
    paths = [(name, path) for name, paths in input.items() for path in ([paths] if isinstance(paths, str) else paths)]
    return [word for name, path in paths if name not in NOT_NAMED for word in ("--input", f"{name}={path}")]


NOT_NAMED = ("script", "code", "files", "model", "run")
