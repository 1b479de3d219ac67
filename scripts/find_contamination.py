"""Find test questions in a corpus: python scripts/find_contamination.py --evaluation .. --corpus .. --out .."""

from pathlib import Path

from seedbed.cli import parser, reporting, spec_of
from seedbed.errors import SeedbedError


def main() -> None:
    arguments = parser(__doc__, "evaluation")
    arguments.add_argument("--corpus", type=Path, required=True, help="built corpus")
    arguments.add_argument("--out", type=Path, required=True, help="the .json to write; a .tsv is written beside it")
    arguments.add_argument("--processes", type=int, default=1, help="shards searched side by side")
    args = arguments.parse_args()
    with reporting(args.log):
        spec = spec_of(args, "evaluation")
        if "source" not in spec:
            raise SeedbedError(f"evaluation {args.name}: has no questions; expected one of kind cmmlu")
        from seedbed.evaluate.cmmlu.contamination import Found, find
        from seedbed.evaluate.job import write_rows
        from seedbed.records import write_record

        result, rows = find(spec["source"], args.corpus, args.processes)
        write_rows(args.out.with_suffix(".tsv"), rows)
        write_record(args.out.with_suffix(".json"), Found, result)


if __name__ == "__main__":
    main()
