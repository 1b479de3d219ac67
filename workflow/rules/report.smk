# Pages for people.
#
# Takes: tables, plots, and the small files of runs and evaluations (config `studies`).
# Gives: studies/<study>/report.html and milestones.html.


rule render_study:
    input:
        script=code("scripts/render_study.py"),
        code=[
            code("seedbed/report/pages.py"),
            code("seedbed/report/templates/study.html"),
            *expand(
                code("seedbed/report/templates/evaluations/{kind}.html"),
                kind=["perplexity", "forgetting", "history", "cmmlu", "samples", "reconstruction"],
            ),
            code("seedbed/report/templates/base.html"),
            code("seedbed/report/templates/style.css"),
        ],
        plots=f"{RESULTS}/studies/{{study}}/plots",
        results=results_of("summary.json", "run.json"),
    output:
        page=report(
            f"{RESULTS}/studies/{{study}}/report.html",
            caption="../report/study.rst",
            category="Studies",
            subcategory="{study}",
            labels={"file": "report"},
        ),
    log:
        f"{RESULTS}/logs/render_study/{{study}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/render_study/{{study}}.tsv"
    conda:
        "../../envs/seedbed.yaml"
    params:
        spec=study_part("date", "title", "notes", "plots"),
        results=lambda wildcards: RESULTS,
    message:
        "Writing the report of the study {wildcards.study}"
    shell:
        "python {input.script}"
        " --study {wildcards.study:q}"
        " --spec {params.spec:q}"
        " --results {params.results:q}"
        " --plots {input.plots:q}"
        " --out {output.page:q}"
        " --log {log:q}"


rule render_milestones:
    input:
        script=code("scripts/render_milestones.py"),
        code=[
            code("seedbed/report/pages.py"),
            code("seedbed/report/templates/milestones.html"),
            code("seedbed/report/templates/base.html"),
            code("seedbed/report/templates/style.css"),
        ],
        tables=expand(f"{RESULTS}/studies/{{study}}/table.tsv", study=PLAN.studies),
    output:
        page=report(
            f"{RESULTS}/milestones.html",
            caption="../report/milestones.rst",
            category="Milestones",
        ),
    log:
        f"{RESULTS}/logs/render_milestones.log",
    benchmark:
        f"{RESULTS}/benchmarks/render_milestones.tsv"
    conda:
        "../../envs/seedbed.yaml"
    params:
        specs=lambda wildcards: canonical_json(specs.study_specs(PLAN, ("date", "title", "notes"))),
        results=lambda wildcards: RESULTS,
    message:
        "Writing the milestones"
    shell:
        "python {input.script}"
        " --specs {params.specs:q}"
        " --results {params.results:q}"
        " --out {output.page:q}"
        " --log {log:q}"
