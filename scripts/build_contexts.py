"""Encode long documents: python scripts/build_contexts.py --contexts long --corpus .. --tokenizer .. --out .."""

from pathlib import Path

from seedbed.cli import parser, reporting, spec_of
from seedbed.data.contexts import build_contexts


def main() -> None:
    arguments = parser(__doc__, "contexts")
    arguments.add_argument("--corpus", type=Path, help="built corpus; a control has none")
    arguments.add_argument("--tokenizer", type=Path, required=True, help="directory with tokenizer.json")
    arguments.add_argument("--out", type=Path, required=True, help="directory to write")
    arguments.add_argument("--processes", type=int, default=1, help="shards encoded side by side")
    args = arguments.parse_args()
    with reporting(args.log):
        build_contexts(spec_of(args, "contexts"), args.corpus, args.tokenizer, args.out, args.processes)


if __name__ == "__main__":
    main()
