# What the command line sets, checked before any job; what the terminal shows; what is said at the end.
#
# All of this is the main workflow's to decide: as a module of another one Seedbed leaves it alone.
from datetime import datetime

from resources import check_resources
from seedbed.files import hold_lock
from seedbed.models import lookup
from snakemake.logging import logger
from terminal import duration, take_terminal

if workflow.is_main_process and workflow.modifier.is_main_snakefile():
    with mistakes_reported():
        check_resources(workflow.resource_settings, {one.name: one.resources for one in workflow.rules})
    take_terminal(workflow.output_settings, lambda: [*rules.all.input, *map(str, workflow.rules)])


# Snakemake's own lock outlives a killed process, so the profile turns it off; this one does not.
onstart:
    global LOCK  # held as long as the process lives
    with mistakes_reported():
        LOCK = hold_lock(RESULTS)
    lookup.keep(Path(RESULTS))


onsuccess:
    logger.info(f"done in {duration((datetime.now() - workflow.start_time).total_seconds())}")
    for study in sorted({job.wildcards.study for job in workflow.dag.jobs if job.rule.name == "render_study"}):
        title, compared = PLAN.config.studies[study].title, len(PLAN.subjects(study))
        logger.info(f"{RESULTS}/studies/{study}/report.html  {title} ({compared} compared)")
    if any(job.rule.name == "render_milestones" for job in workflow.dag.jobs):
        logger.info(f"{RESULTS}/milestones.html  all studies")
