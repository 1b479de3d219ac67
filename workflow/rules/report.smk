# Pages for people.
#
# Takes: tables, plots, and the small files of runs and evaluations (config `studies`).
# Gives: studies/<study>/report.html and milestones.html.

SHARED_TEMPLATES = ("base.html", "style.css")


rule render_study:
    input:
        script=code("scripts/render_study.py"),
        code=report_code("seedbed.report.study", "page.html"),
        templates=[code(f"seedbed/report/templates/{name}") for name in ("study.html", *SHARED_TEMPLATES)],
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
        "python {input.script:q}"
        " --study {wildcards.study:q}"
        " --spec {params.spec:q}"
        " --results {params.results:q}"
        " --plots {input.plots:q}"
        " --out {output.page:q}"
        " --log {log:q}"


rule render_milestones:
    input:
        script=code("scripts/render_milestones.py"),
        code=code_of("seedbed.report.milestones"),
        templates=[code(f"seedbed/report/templates/{name}") for name in ("milestones.html", *SHARED_TEMPLATES)],
        tables=expand(f"{RESULTS}/studies/{{study}}/table.json", study=PLAN.studies),
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
        specs=lambda wildcards: spec_file("studies", specs.study_specs(PLAN, ("date", "title", "notes"))),
        results=lambda wildcards: RESULTS,
    message:
        "Writing the milestones"
    shell:
        "python {input.script:q}"
        " --specs {params.specs:q}"
        " --results {params.results:q}"
        " --out {output.page:q}"
        " --log {log:q}"
