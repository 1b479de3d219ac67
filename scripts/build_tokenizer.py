"""Train or adopt a tokenizer: python scripts/build_tokenizer.py --tokenizer news-4k --corpus .. --out .."""

from pathlib import Path

from seedbed.cli import parser, reporting, spec_of
from seedbed.data.tokenizer import build_tokenizer


def main() -> None:
    arguments = parser(__doc__, "tokenizer")
    arguments.add_argument("--corpus", type=Path, help="built corpus to train on")
    arguments.add_argument("--out", type=Path, required=True, help="directory to write")
    args = arguments.parse_args()
    with reporting(args.log):
        build_tokenizer(spec_of(args, "tokenizer"), args.corpus, args.out)


if __name__ == "__main__":
    main()
