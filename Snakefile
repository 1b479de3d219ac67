# From raw text to a milestone report: `snakemake --cores all`. What is compared is said in config.yaml.
from snakemake.utils import min_version

min_version("9.20")


include: "workflow/rules/configuration.smk"


if not workflow.config_settings.configfiles:

    configfile: CONFIG_FILE


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/tokenizer.smk"
include: "workflow/rules/contexts.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/contamination.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"


for path in PLAN.config.custom_rules:
    with syntax_errors_reported(path):

        include: custom_rules(path)


report: "workflow/report/workflow.rst"


rule all:
    default_target: True
    input:
        milestones=f"{RESULTS}/milestones.html",
        studies=expand(
            f"{RESULTS}/studies/{{study}}/{{file}}", study=PLAN.studies, file=["report.html", "table.tsv", "plots"]
        ),
        runs=expand(
            f"{RESULTS}/runs/{{run}}/{{file}}",
            run=PLAN.runs,
            file=["run.json", "metrics.jsonl", "model", "summary.json"],
        ),
        models=expand(
            f"{RESULTS}/models/{{model}}",
            model={model for study in PLAN.config.studies.values() for model in study.models},
        ),
        evaluations=[
            f"{RESULTS}/evaluations/{subject}/{evaluation}.{end}"
            for name, study in PLAN.config.studies.items()
            for subject in PLAN.subjects(name)
            for evaluation in study.evaluate
            for end in ("json", "tsv")
        ],


include: "workflow/rules/request.smk"
