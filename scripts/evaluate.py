"""Measure a trained model: python scripts/evaluate.py --evaluation forgetting --run .. --tokens .. --out .."""

from pathlib import Path

from seedbed.cli import parser, reporting, spec_of
from seedbed.files import read_json


def main() -> None:
    arguments = parser(__doc__, "evaluation")
    arguments.add_argument("--run", type=Path, required=True, help="directory of a finished run")
    arguments.add_argument("--tokens", type=Path, required=True, help="tokens of its corpus, with index.json")
    arguments.add_argument("--out", type=Path, required=True, help="the .json to write; a .tsv is written beside it")
    arguments.add_argument("--threads", type=int, default=1, help="CPU threads")
    args = arguments.parse_args()
    with reporting(args.log):
        import torch

        from seedbed.evaluate import evaluate
        from seedbed.evaluate.subject import Subject

        torch.set_num_threads(args.threads)
        trained_length = read_json(args.run / "run.json")["spec"]["seq_len"]
        subject = Subject(args.run / "model", args.tokens, trained_length)
        evaluate(args.name, spec_of(args, "evaluation"), subject, args.out)


if __name__ == "__main__":
    main()
