"""What can be measured: the one list of kinds, each a folder."""

from seedbed.registry import Registry

EVALUATIONS = Registry(
    "seedbed.evaluations",
    "seedbed.evaluate.contract:Evaluation",
    "kind",
    {
        "perplexity": "seedbed.evaluate.perplexity.config:Perplexity",
        "forgetting": "seedbed.evaluate.forgetting.config:Forgetting",
        "history": "seedbed.evaluate.history.config:History",
        "cmmlu": "seedbed.evaluate.cmmlu.config:CMMLU",
        "samples": "seedbed.evaluate.samples.config:Samples",
        "reconstruction": "seedbed.evaluate.reconstruction.config:Reconstruction",
        "task-accuracy": "seedbed.evaluate.task_accuracy.config:TaskAccuracy",
    },
)
