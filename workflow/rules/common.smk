# The checked plan, the results directory, the environment of the jobs and the lock.
from functools import cache
from tokenize import TokenError

from places import check_results
from snakemake.exceptions import WorkflowError
from snakemake.io import contains_wildcard


def literal(path):
    """A path that Snakemake takes as it is written; the workflow ends where it would fill in a wildcard."""
    with mistakes_reported():
        if contains_wildcard(path):
            raise SeedbedError(f"{path}: Snakemake takes what is in braces for a wildcard; expected a path without")
    return path


# A kind of an installed package may be at fault.
with mistakes_reported():
    from seedbed.checksums import how_often
    from seedbed.config.fields import dump
    from seedbed.config.load import check
    from seedbed.data.sources import local_files
    from seedbed.files import canonical_json, sha256_of, write_text
    from seedbed.imports import sources
    from seedbed.plan import Plan, specs
    from seedbed.plan.check import check_evaluation
    from seedbed.plan.forecast import forecast

    CONFIG = check(config)
    check_results(CONFIG.results, CODE)
    PLAN = Plan(CONFIG)
    how_often()  # a value that nobody knows

RESULTS = PLAN.config.results.rstrip("/")


def code(path):
    """A file of Seedbed's as seen from the working directory: jobs run there, wherever the Snakefile lies."""
    return relative(CODE / path)


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


@contextmanager
def syntax_errors_reported(path):
    """End the workflow with one line at a rule file that is none, for which Snakemake has a traceback of its own."""
    try:
        yield
    except (SyntaxError, TokenError) as error:
        text = f" in {error.text.strip()!r}" if getattr(error, "text", None) else ""
        sys.exit(f"error: {SeedbedError(f'config: custom_rules: {path}: {error.args[0]}{text}')}")


@cache  # a thousand evaluations ask for the code of one kind
def code_of(*modules):
    """What modules are made of, those that they import included; a missing one ends the workflow with one line."""
    with mistakes_reported():
        return [code(path) for path in sources(*modules)]


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


# Jobs use this interpreter and this source tree, also where the environment is not activated.
os.environ.update(
    PATH=f"{os.path.dirname(sys.executable)}:{os.getenv('PATH', '')}",
    PYTHONPATH=":".join(filter(None, (str(CODE), os.getenv("PYTHONPATH")))),  # an empty part is the working directory
)

if workflow.output_settings.dryrun and workflow.is_main_process:
    with mistakes_reported():
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
