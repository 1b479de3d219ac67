# Tables and plots; nothing here computes a result.
#
# Takes: the small files of runs and evaluations (config `studies`).
# Gives: studies/<study>/{table.tsv,plots/}.

from seedbed.report.kinds import part_of, report_module


def study_part(*parts):
    """A params function: a study with those parts that a rule reads, as JSON."""

    def of(wildcards):
        return canonical_json(specs.study_spec(PLAN, wildcards.study, parts))

    return of


def results_of(*files):
    """An input function: these files of every run of a study, and the evaluations of its runs and models."""

    def of(wildcards):
        runs = [variant.run for variant in PLAN.studies[named("study", wildcards)]]
        subjects, names = PLAN.subjects(wildcards.study), PLAN.config.studies[wildcards.study].evaluate
        paths = [f"{RESULTS}/runs/{run}/{file}" for run in runs for file in files]
        paths += [trunk_folder(PLAN.trunks_by_name[name]) for name in PLAN.study_trunks(wildcards.study)]
        return paths + [f"{RESULTS}/evaluations/{subject}/{name}.json" for subject in subjects for name in names]

    return of


def report_code(module, *parts):
    """An input function: the code that shows a study, and the reports of its kinds of evaluations with these parts."""

    def of(wildcards):
        names = PLAN.config.studies[wildcards.study].evaluate
        kinds = dict.fromkeys(PLAN.config.evaluations[name].kind for name in names)
        try:
            files = [code(part_of(kind, part)) for kind in kinds for part in parts]
            return code_of(module, *map(report_module, kinds)) + files
        except SeedbedError as error:
            sys.exit(f"error: {error}")

    return of


rule render_table:
    input:
        script=code("scripts/render_table.py"),
        code=report_code("seedbed.report.table"),
        results=results_of("summary.json"),
    output:
        table=report(
            f"{RESULTS}/studies/{{study}}/table.tsv",
            caption="../report/table.rst",
            category="Studies",
            subcategory="{study}",
            labels={"file": "table"},
        ),
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
        "python {input.script}"
        " --study {wildcards.study:q}"
        " --spec {params.spec:q}"
        " --results {params.results:q}"
        " --out {output.table:q}"
        " --log {log:q}"


rule render_plots:
    input:
        script=code("scripts/render_plots.py"),
        code=report_code("seedbed.report.draw"),
        results=results_of("summary.json", "metrics.jsonl"),
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
        "python {input.script}"
        " --study {wildcards.study:q}"
        " --spec {params.spec:q}"
        " --results {params.results:q}"
        " --out {output.plots:q}"
        " --log {log:q}"
