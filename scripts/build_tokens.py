"""Encode a corpus into token shards: python scripts/build_tokens.py --corpus .. --tokenizer .. --out .."""

from pathlib import Path

from seedbed.cli import parser, reporting
from seedbed.data.tokens import build_tokens


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--corpus", type=Path, required=True, help="built corpus")
    arguments.add_argument("--tokenizer", type=Path, required=True, help="directory with tokenizer.json")
    arguments.add_argument("--out", type=Path, required=True, help="directory to write")
    arguments.add_argument("--processes", type=int, default=1, help="shards encoded side by side")
    args = arguments.parse_args()
    with reporting(args.log):
        build_tokens(args.corpus, args.tokenizer, args.out, args.processes)


if __name__ == "__main__":
    main()
