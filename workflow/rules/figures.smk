# Tables and plots; nothing here computes a result.
#
# Takes: the small files of runs and evaluations (config `studies`).
# Gives: studies/<study>/{table.tsv,table.json,plots/}.
include: "../inputs/figures.smk"


rule render_table:
    input:
        script=code("scripts/render_table.py"),
        code=report_code("seedbed.report.table"),
        results=results_of("run.json", "summary.json"),
    output:
        table=report(
            f"{RESULTS}/studies/{{study}}/table.tsv",
            caption="../report/table.rst",
            category="Studies",
            subcategory="{study}",
            labels={"file": "table"},
        ),
        rows=f"{RESULTS}/studies/{{study}}/table.json",
    log:
        f"{RESULTS}/logs/render_table/{{study}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/render_table/{{study}}.tsv"
    conda:
        "../../envs/seedbed.yaml"
    params:
        spec=study_part(),
        results=lambda wildcards: RESULTS,
    message:
        "Tabulating the study {wildcards.study}"
    shell:
        "python {input.script:q}"
        " --study {wildcards.study:q}"
        " --spec {params.spec:q}"
        " --results {params.results:q}"
        " --out {output.table:q}"
        " --log {log:q}"


rule render_plots:
    input:
        script=code("scripts/render_plots.py"),
        code=report_code("seedbed.report.draw"),
        results=results_of("run.json", "summary.json", "metrics.jsonl"),
    output:
        plots=report(
            directory(f"{RESULTS}/studies/{{study}}/plots"),
            patterns=["{name}.svg"],
            caption="../report/plot.rst",
            category="Studies",
            subcategory="{study}",
            labels={"file": "plot {name}"},
        ),
    log:
        f"{RESULTS}/logs/render_plots/{{study}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/render_plots/{{study}}.tsv"
    conda:
        "../../envs/seedbed.yaml"
    params:
        spec=study_part("plots"),
        results=lambda wildcards: RESULTS,
    message:
        "Drawing the plots of the study {wildcards.study}"
    shell:
        "python {input.script:q}"
        " --study {wildcards.study:q}"
        " --spec {params.spec:q}"
        " --results {params.results:q}"
        " --out {output.plots:q}"
        " --log {log:q}"
