"""The long form of the property tests: python -m tests.fuzz --n 10000 --seed 1 [configurations|damage]

Every distinct failure is told once, when it is first met, with the example that led to it; then how often each was met.
"""

import argparse
import os
import sys
import tempfile
import warnings
from pathlib import Path
from unittest import mock

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "train")]
os.environ |= {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--n", type=int, default=10_000, help="examples of each property")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--seconds", type=int, default=60, help="of one example, after which it hangs")
    arguments.add_argument("property", nargs="?", choices=("configurations", "damage"), help="both unless given")
    args = arguments.parse_args()
    warnings.simplefilter("ignore")

    from fuzz import configurations, damage
    from fuzz.search import search

    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        if args.property != "configurations":
            with mock.patch("seedbed.files.flush"):  # nothing here has to outlive a crash
                place = damage.Place(Path(folder).resolve())
                failed += search(damage.examples(place), lambda one: place.holds(*one), args.n, args.seed, args.seconds)
            place.check_original()
        if args.property != "damage":
            configurations.limit_memory()
            failed += search(configurations.EXAMPLES, configurations.holds, args.n, args.seed, args.seconds)
        os.chdir("/")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
