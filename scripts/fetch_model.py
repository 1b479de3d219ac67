"""Fetch an external model: python scripts/fetch_model.py --model qwen --out models/qwen"""

from pathlib import Path

from seedbed.cli import parser, reporting, spec_of
from seedbed.models.external import adopt_model


def main() -> None:
    arguments = parser(__doc__, "model")
    arguments.add_argument("--out", type=Path, required=True, help="directory to write")
    args = arguments.parse_args()
    with reporting(args.log):
        adopt_model(spec_of(args, "model"), args.out)


if __name__ == "__main__":
    main()
