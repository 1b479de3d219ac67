"""What a run can learn: the one list of kinds, each a folder."""

from seedbed.registry import Registry

OBJECTIVES = Registry(
    "seedbed.objectives",
    {
        "lm": "seedbed.objectives.lm.config:LanguageModelRun",
        "icae": "seedbed.objectives.icae.config:IcaeRun",
    },
)
