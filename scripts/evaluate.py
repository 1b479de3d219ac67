"""Measure a model: python scripts/evaluate.py --evaluation forgetting --run .. --input tokens=.. --out .."""

from pathlib import Path

from seedbed.cli import add_inputs, parser, reporting, spec_of


def main() -> None:
    arguments = parser(__doc__, "evaluation")
    subject = arguments.add_mutually_exclusive_group(required=True)
    subject.add_argument("--run", type=Path, help="directory of a finished run")
    subject.add_argument("--model", type=Path, help="a transformers directory, in place of a run")
    add_inputs(arguments, "a name may come again")
    arguments.add_argument("--out", type=Path, required=True, help="the .json to write; a .tsv is written beside it")
    arguments.add_argument("--batch-tokens", type=int, default=0, help="tokens read at once; 0 chooses")
    arguments.add_argument("--threads", type=int, default=1, help="CPU threads")
    args = arguments.parse_args()
    with reporting(args.log):
        import torch

        from seedbed.evaluate.job import evaluate
        from seedbed.hardware import keep_freed_memory

        torch.set_num_threads(args.threads)
        keep_freed_memory()
        spec = spec_of(args, "evaluation")
        evaluate(args.name, spec, args.run, args.model, args.input, args.out, args.batch_tokens)


if __name__ == "__main__":
    main()
