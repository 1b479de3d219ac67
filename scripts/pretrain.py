"""Train a run, or what is left of it: python scripts/pretrain.py --run tiny --input tokens=.. --out .."""

import sys
from argparse import ArgumentParser
from dataclasses import fields
from pathlib import Path

from seedbed.cli import add_inputs, parser, reporting, spec_of
from seedbed.train.execution import Execution
from seedbed.train.job import Job
from seedbed.train.launch import pretrain


def main() -> None:
    arguments = parser(__doc__, "run")
    add_inputs(
        arguments,
        "init=DIRECTORY is a model or a checkpoint to start from, "
        "trunk=DIRECTORY a checkpoint with the first updates of this very run",
    )
    arguments.add_argument("--until", type=int, help="updates to stop after, as a trunk for others")
    arguments.add_argument("--out", type=Path, required=True, help="directory of the run")
    add_execution(arguments)
    args = arguments.parse_args()
    with reporting(args.log) as report:
        execution = Execution(**{field.name: getattr(args, field.name) for field in fields(Execution)})
        job = Job(args.name, spec_of(args, "run"), args.out, dict(args.input), args.until, execution, report)
        pretrain(job, sys.argv)


def add_execution(arguments: ArgumentParser) -> None:
    """How the run is computed: none of it changes what the run is."""
    helps = {
        "processes": "ranks: GPUs, or CPU processes; 0 chooses",
        "threads": "CPU threads of all processes together",
        "micro_batch": "samples per process at a time; 0 chooses",
        "zero_stage": "what DeepSpeed shares out: 0 nothing, 1 optimizer, 2 gradients too, 3 weights too",
        "offload": "where ZeRO keeps the optimizer: none or cpu",
        "gradient_checkpointing": "1: compute activations again instead of keeping them",
        "compile": "1: torch.compile",
        "checkpoint_seconds": "time between checkpoints",
        "checkpoint_steps": "steps between checkpoints; 0: by time alone",
        "checkpoint_keep": "how many checkpoints are kept",
    }
    for field in fields(Execution):
        kind = int if field.type is bool else field.type
        name = f"--{field.name.replace('_', '-')}"
        arguments.add_argument(name, type=kind, default=kind(field.default), help=helps[field.name])


if __name__ == "__main__":
    main()
