"""The registry of objectives: what a run can learn, a folder for each kind."""

from seedbed.registry import Registry

OBJECTIVES = Registry(
    "seedbed.objectives",
    "seedbed.config.run:Run",
    "objective",
    {
        "lm": "seedbed.objectives.lm.config:LanguageModelRun",
        "icae": "seedbed.objectives.icae.config:IcaeRun",
        "thinker": "seedbed.objectives.thinker.config:ThinkerRun",
    },
)
