# The checked plan, the results directory, the environment of the jobs and the lock.
from functools import cache
from tokenize import TokenError

from places import check_results

# A kind of an installed package may be at fault.
with mistakes_reported():
    from seedbed.checksums import how_often
    from seedbed.config.fields import dump
    from seedbed.config.load import check
    from seedbed.data.sources import local_files
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
