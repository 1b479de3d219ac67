"""Measure a model: python scripts/evaluate.py --evaluation forgetting --run .. --tokens .. --out .."""

from pathlib import Path

from seedbed.cli import parser, reporting, spec_of


def main() -> None:
    arguments = parser(__doc__, "evaluation")
    subject = arguments.add_mutually_exclusive_group(required=True)
    subject.add_argument("--run", type=Path, help="directory of a finished run")
    subject.add_argument("--model", type=Path, help="a transformers directory, in place of a run")
    arguments.add_argument("--tokens", type=Path, help="tokens to measure it on, with index.json, where needed")
    arguments.add_argument("--contamination", type=Path, nargs="+", help="what find_contamination.py wrote")
    arguments.add_argument("--out", type=Path, required=True, help="the .json to write; a .tsv is written beside it")
    arguments.add_argument("--batch-tokens", type=int, default=0, help="tokens read at once; 0 chooses")
    arguments.add_argument("--threads", type=int, default=1, help="CPU threads")
    args = arguments.parse_args()
    with reporting(args.log):
        import torch

        from seedbed.evaluate import evaluate, subject_of
        from seedbed.hardware import keep_freed_memory

        torch.set_num_threads(args.threads)
        keep_freed_memory()
        spec = spec_of(args, "evaluation")
        subject = subject_of(spec, args.run, args.model, args.tokens, args.batch_tokens)
        inputs = {"contamination": args.contamination} if args.contamination else {}
        evaluate(args.name, spec, subject, args.out, **inputs)


if __name__ == "__main__":
    main()
