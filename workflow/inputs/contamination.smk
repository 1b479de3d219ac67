# Inputs and params of the search for questions, from wildcards to paths and specs.


def question_files(wildcards):
    """The local files with the questions that are looked for in a corpus."""
    having = [name for name, evaluation in PLAN.config.evaluations.items() if hasattr(evaluation, "source")]
    known("evaluation with questions", wildcards.evaluation, having)
    return evaluation_files(wildcards)
