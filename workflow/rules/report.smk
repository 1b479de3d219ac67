# Tables, plots and pages; nothing here computes a result.
#
# Takes: the small files of runs and evaluations (config `studies`).
# Gives: studies/<study>/{table.tsv,plots/,report.html} and milestones.html.


rule render_table:
    input:
        script="scripts/render_table.py",
        code="seedbed/report/tables.py",
        results=results_of("summary.json"),
    output:
        table=report(
            f"{RESULTS}/studies/{{study}}/table.tsv",
            caption="../report/table.rst",
            category="Studies",
            subcategory="{study}",
            labels={"file": "table"},
        ),
    params:
        spec=study_part("vary"),
        results=RESULTS,
    log:
        f"{RESULTS}/logs/render_table/{{study}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/render_table/{{study}}.tsv"
    conda:
        "../../envs/seedbed.yaml"
    message:
        "Tabulating the study {wildcards.study}"
    shell:
        "python {input.script}"
        " --study {wildcards.study:q}"
        " --spec {params.spec:q}"
        " --results {params.results:q}"
        " --out {output.table:q}"
        " --log {log:q}"


rule render_plots:
    input:
        script="scripts/render_plots.py",
        code="seedbed/report/plots.py",
        results=results_of("metrics.jsonl"),
    output:
        plots=report(
            directory(f"{RESULTS}/studies/{{study}}/plots"),
            patterns=["{name}.svg"],
            caption="../report/plot.rst",
            category="Studies",
            subcategory="{study}",
            labels={"file": "plot {name}"},
        ),
    params:
        spec=study_part("plots"),
        results=RESULTS,
    log:
        f"{RESULTS}/logs/render_plots/{{study}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/render_plots/{{study}}.tsv"
    conda:
        "../../envs/seedbed.yaml"
    message:
        "Drawing the plots of the study {wildcards.study}"
    shell:
        "python {input.script}"
        " --study {wildcards.study:q}"
        " --spec {params.spec:q}"
        " --results {params.results:q}"
        " --out {output.plots:q}"
        " --log {log:q}"


rule render_study:
    input:
        script="scripts/render_study.py",
        code=["seedbed/report/pages.py", "seedbed/report/templates/study.html", "seedbed/report/templates/style.css"],
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
    params:
        spec=study_part("date", "title", "notes", "vary", "plots"),
        results=RESULTS,
    log:
        f"{RESULTS}/logs/render_study/{{study}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/render_study/{{study}}.tsv"
    conda:
        "../../envs/seedbed.yaml"
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
        script="scripts/render_milestones.py",
        code=["seedbed/report/pages.py", "seedbed/report/templates/milestones.html", "seedbed/report/templates/style.css"],
        tables=expand(f"{RESULTS}/studies/{{study}}/table.tsv", study=PLAN.studies),
    output:
        page=report(f"{RESULTS}/milestones.html", caption="../report/milestones.rst", category="Milestones"),
    params:
        specs=canonical_json(PLAN.study_specs("date", "title", "notes")),
        results=RESULTS,
    log:
        f"{RESULTS}/logs/render_milestones.log",
    benchmark:
        f"{RESULTS}/benchmarks/render_milestones.tsv"
    conda:
        "../../envs/seedbed.yaml"
    message:
        "Writing the milestones"
    shell:
        "python {input.script}"
        " --specs {params.specs:q}"
        " --results {params.results:q}"
        " --out {output.page:q}"
        " --log {log:q}"
