"""Train a run, or what is left of it: python scripts/pretrain.py --run tiny --tokens .. --tokenizer .. --out .."""

import sys
from pathlib import Path

from seedbed.cli import parser, reporting, spec_of
from seedbed.train.execution import Execution
from seedbed.train.launch import Job, pretrain


def main() -> None:
    arguments = parser(__doc__, "run")
    arguments.add_argument("--tokens", type=Path, required=True, help="directory with index.json")
    arguments.add_argument("--tokenizer", type=Path, required=True, help="directory with tokenizer.json")
    arguments.add_argument("--init", type=Path, help="model directory to start from")
    arguments.add_argument("--out", type=Path, required=True, help="directory of the run")
    arguments.add_argument("--processes", type=int, default=1, help="ranks: GPUs, or CPU processes; 0 chooses")
    arguments.add_argument("--threads", type=int, default=1, help="CPU threads of all processes together")
    arguments.add_argument("--micro-batch", type=int, default=0, help="sequences per process at a time; 0 chooses")
    arguments.add_argument("--zero-stage", type=int, default=0, help="what DeepSpeed shares out: 0 nothing, 1, 2")
    arguments.add_argument("--checkpoint-seconds", type=float, default=300, help="time between checkpoints")
    args = arguments.parse_args()
    with reporting(args.log) as report:
        execution = Execution(args.processes, args.threads, args.micro_batch, args.zero_stage, args.checkpoint_seconds)
        spec = spec_of(args, "run")
        pretrain(Job(args.name, spec, args.tokens, args.tokenizer, args.out, args.init, execution, report), sys.argv)


if __name__ == "__main__":
    main()
