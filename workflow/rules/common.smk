# The checked plan, the results directory, the environment of the jobs and the lock.
import os
import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path

# Where Seedbed lies: `workflow.basedir` is that of the main workflow, which may be another one that uses this as a module.
CODE = Path(str(workflow.current_basedir)).parents[1]
sys.path.insert(0, str(CODE))

from seedbed.errors import SeedbedError, choices


@contextmanager
def mistakes_reported(where=None):
    """End the workflow with one line at a mistake of the user."""
    try:
        yield
    except SeedbedError as error:
        sys.exit(f"error: {f'{where}: ' if where else ''}{error}")


# A kind of an installed package may be at fault.
with mistakes_reported():
    from seedbed.config.fields import dump
    from seedbed.config.load import check
    from seedbed.data.sources import local_files
    from seedbed.files import canonical_json
    from seedbed.imports import sources
    from seedbed.plan import Plan, specs
    from seedbed.plan.check import check_evaluation
    from seedbed.plan.forecast import forecast

    PLAN = Plan(check(config))

RESULTS = PLAN.config.results.rstrip("/")


def code(path):
    """A file of Seedbed's as seen from the working directory: jobs run there, wherever the Snakefile lies."""
    path = CODE / path
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def known(what, name, names):
    """A name that a target has; the workflow ends with one line where nothing is called so."""
    with mistakes_reported():
        if name not in names:
            raise SeedbedError(f"no {what} is called {name!r}{choices(name, names)}")
    return name


def named(kind, wildcards):
    """The name in the wildcard of that kind, which the configuration has to have."""
    return known(kind, wildcards[kind], specs.SPECS[kind][0](PLAN))


def custom_rules(path):
    """The place of a rule file of the user's, which is named from the working directory."""
    if not Path(path).is_file():
        sys.exit(f"error: config: custom_rules: {path}: no such file in {Path.cwd()}")
    return str(Path(path).resolve())


@cache  # a thousand evaluations ask for the code of one kind
def code_of(*modules):
    """What modules are made of, those that they import included; a missing one ends the workflow with one line."""
    with mistakes_reported():
        return [code(path) for path in sources(*modules)]


def spec(kind):
    """A params function: the spec that the wildcard of that name picks, as JSON.

    A spec is all that a stage reads of the configuration. As a param it makes exactly the stages that read a changed key
    run again. How a stage is computed comes by resources and threads, which trigger nothing.
    """

    def of(wildcards):
        return canonical_json(specs.SPECS[kind][1](PLAN, wildcards[kind]))

    return of


# Jobs use this interpreter and this source tree, also where the environment is not activated.
os.environ.update(
    PATH=f"{os.path.dirname(sys.executable)}:{os.getenv('PATH', '')}",
    PYTHONPATH=f"{CODE}:{os.getenv('PYTHONPATH', '')}",
)

if workflow.output_settings.dryrun and workflow.is_main_process:
    print(forecast(PLAN), flush=True)


include: "../inputs/common.smk"


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
