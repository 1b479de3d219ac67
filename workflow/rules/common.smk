# What several rule files need: the checked plan, the results directory, and functions from names to paths and specs.
#
# A spec is all that a stage reads of the configuration, as JSON. As a param it makes exactly the stages that read a
# changed key run again. How a run is computed comes by resources and threads, which trigger nothing.
import os
import sys

sys.path.insert(0, workflow.basedir)

from seedbed.errors import SeedbedError
from seedbed.config import check
from seedbed.files import canonical_json, hold_lock
from seedbed.forecast import forecast
from seedbed.plan import Plan
from seedbed.sources import local_files

try:
    PLAN = Plan(check(config))
except SeedbedError as error:
    sys.exit(f"error: {error}")

RESULTS = PLAN.config.results.rstrip("/")

# Jobs use this interpreter and this source tree, also where the environment is not activated.
os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", "")
os.environ["PYTHONPATH"] = workflow.basedir + os.pathsep + os.environ.get("PYTHONPATH", "")

if workflow.output_settings.dryrun and workflow.is_main_process:
    print(forecast(PLAN), flush=True)


# Snakemake's own lock outlives a killed process, so the profile turns it off; this one does not.
onstart:
    try:
        LOCK = hold_lock(RESULTS)
    except SeedbedError as error:
        sys.exit(f"error: {error}")


wildcard_constraints:
    corpus="[^/]+",
    tokenizer="[^/]+",
    run="[^/]+",
    evaluation="[^/]+",
    study="[^/]+",


def spec(kind):
    """A params function: the spec that the wildcard of that name picks, as JSON."""

    def of(wildcards):
        return canonical_json(getattr(PLAN, f"{kind}_spec")(wildcards[kind]))

    return of


def study_part(*parts):
    """A params function: the parts of a study that a rule reads, as JSON."""

    def of(wildcards):
        return canonical_json(PLAN.study_spec(wildcards.study, *parts))

    return of


def tokens_of(wildcards):
    """Index of the tokens that a run learns from."""
    run = PLAN.runs[wildcards.run]
    return f"{RESULTS}/tokens/{run.corpus}/{run.tokenizer}/index.json"


def results_of(*files, evaluations=True):
    """An input function: these files of every run of a study, and its evaluations."""

    def of(wildcards):
        runs = [variant.run for variant in PLAN.studies[wildcards.study]]
        names = PLAN.config.studies[wildcards.study].evaluate if evaluations else []
        return [f"{RESULTS}/runs/{run}/{file}" for run in runs for file in files] + [
            f"{RESULTS}/evaluations/{run}/{name}.json" for run in runs for name in names
        ]

    return of
