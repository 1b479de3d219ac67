# The checked plan, the results directory, the environment of the jobs and the lock.
import os
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from seedbed.config.fields import dump
from seedbed.config.load import check
from seedbed.data.sources import local_files
from seedbed.errors import SeedbedError
from seedbed.files import canonical_json, hold_lock
from seedbed.models import facts
from seedbed.plan import Plan, specs
from seedbed.plan.forecast import forecast

try:
    PLAN = Plan(check(config))
except SeedbedError as error:
    sys.exit(f"error: {error}")

RESULTS = PLAN.config.results.rstrip("/")


def code(path):
    """A file of Seedbed's as seen from the working directory: jobs run there, wherever the Snakefile lies."""
    path = Path(workflow.basedir) / path
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def spec(kind):
    """A params function: the spec that the wildcard of that name picks, as JSON.

    A spec is all that a stage reads of the configuration. As a param it makes exactly the stages that read a changed key
    run again. How a stage is computed comes by resources and threads, which trigger nothing.
    """

    def of(wildcards):
        return canonical_json(specs.SPECS[kind][1](PLAN, wildcards[kind]))

    return of


def watched(where, files):
    """Local files to watch for changes, while there are at most 1000 of them."""
    try:
        paths = local_files(files)
    except SeedbedError as error:
        sys.exit(f"error: {where}: {error}")
    return [str(path) for path in paths] if len(paths) <= 1000 else []


def files_in(folder):
    """The files of a directory; a hub id has none."""
    return [str(path) for path in sorted(Path(folder).glob("*")) if path.is_file()] if folder else []


def named_inputs(wildcards, input):
    """The options that name the inputs of a job, for those functions that return them by name."""
    paths = [(name, path) for name, paths in input.items() for path in ([paths] if isinstance(paths, str) else paths)]
    return " ".join(f"--input {name}={path}" for name, path in paths if name not in NOT_NAMED)


NOT_NAMED = ("script", "code", "files", "model", "run")

# Jobs use this interpreter and this source tree, also where the environment is not activated.
os.environ.update(
    PATH=f"{os.path.dirname(sys.executable)}:{os.getenv('PATH', '')}",
    PYTHONPATH=f"{workflow.basedir}:{os.getenv('PYTHONPATH', '')}",
)

if workflow.output_settings.dryrun and workflow.is_main_process:
    print(forecast(PLAN), flush=True)


# Snakemake's own lock outlives a killed process, so the profile turns it off; this one does not.
onstart:
    global LOCK  # held as long as the process lives
    try:
        LOCK = hold_lock(RESULTS)
    except SeedbedError as error:
        sys.exit(f"error: {error}")
    facts.keep(Path(RESULTS))


wildcard_constraints:
    file="[^/]+",
    corpus="[^/]+",
    tokenizer="[^/]+",
    contexts="[^/]+",
    run="[^/]+",
    trunk="[0-9a-f]{12}",
    step="[0-9]+",
    model="[^/]+",
    subject="[^/]+",
    evaluation="[^/]+",
    study="[^/]+",
