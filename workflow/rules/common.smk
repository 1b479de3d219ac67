# The checked plan, the results directory, the environment of the jobs and the lock.
import os
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from seedbed.errors import SeedbedError
from seedbed.config import check
from seedbed.files import canonical_json, hold_lock
from seedbed.forecast import forecast
from seedbed.plan import Plan, data_of, dump
from seedbed.sources import local_files

try:
    PLAN = Plan(check(config))
except SeedbedError as error:
    sys.exit(f"error: {error}")

RESULTS = PLAN.config.results.rstrip("/")

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
