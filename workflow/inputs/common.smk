# What inputs and params of several stages are made with.
from seedbed.models.foreign import is_directory


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
