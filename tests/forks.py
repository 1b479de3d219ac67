"""Processes forked from one that has loaded the large libraries already: each start of those costs seconds."""

from multiprocessing import get_context

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "seedbed.train.trainer",
        "deepspeed",
        "deepspeed.runtime.zero.muon.muon_optimizer",  # any ZeRO stage loads it, and the compiler with it
        "deepspeed.runtime.zero.stage_1_and_2",
        "deepspeed.runtime.zero.stage3",
        "peft",
        "torch.utils.tensorboard",
        "transformers.models.gpt2.modeling_gpt2",
        "transformers.models.llama.modeling_llama",
        "snakemake.cli",
    ]
)
