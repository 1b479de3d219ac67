"""Clean, deduplicate, shuffle and split documents: python scripts/build_corpus.py --corpus news --out corpora/news"""

from pathlib import Path

from seedbed.cli import parser, reporting, spec_of
from seedbed.data.corpus import build_corpus
from seedbed.data.sources import documents, split_documents
from seedbed.errors import SeedbedError


def main() -> None:
    arguments = parser(__doc__, "corpus")
    arguments.add_argument("--downloaded", type=Path, help="file that download.py made, for a package or url source")
    arguments.add_argument("--out", type=Path, required=True, help="directory to write")
    args = arguments.parse_args()
    with reporting(args.log):
        spec = spec_of(args, "corpus")
        if "sha256" in spec["source"] and not args.downloaded:
            raise SeedbedError(
                f"corpus {args.name}: its source is downloaded first: give FILE of "
                f"`python scripts/download.py --corpus {args.name} --out FILE` as --downloaded FILE"
            )
        build_corpus(documents(spec, args.downloaded), spec, args.out, split_documents(spec))


if __name__ == "__main__":
    main()
