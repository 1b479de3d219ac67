# Inputs and params of tables, plots and pages, from wildcards to paths and specs.
from seedbed.report.kinds import part_of, report_module


def study_part(*parts):
    """A params function: a study with those parts that a rule reads, as a file."""

    def of(wildcards):
        return spec_file("study", specs.study_spec(PLAN, wildcards.study, parts))

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
        names = PLAN.config.studies[named("study", wildcards)].evaluate
        kinds = dict.fromkeys(PLAN.config.evaluations[name].kind for name in names)
        with mistakes_reported():
            files = [code(part_of(kind, part)) for kind in kinds for part in parts]
            return code_of(module, *map(report_module, kinds)) + files

    return of
