"""What the scripts share: their spec, their log, and errors as one line."""

import argparse
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seedbed.errors import SeedbedError, choices, shown
from seedbed.files import read_json, sha256_of
from seedbed.ranks import rank


def parser(description: str, kind: str | None = None) -> argparse.ArgumentParser:
    """An argument parser with `--log` and, for a stage that reads the configuration, its spec.

    The spec comes either from a file of its own (`--spec`, as the workflow passes it) or from a configuration file by
    name.
    """
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--log", type=Path, help="file that messages and errors go to, too")
    if kind:
        made.add_argument(f"--{kind}", dest="name", required=True, help=f"name of the {kind}")
        help = f"a file with the {kind} as JSON, in place of a configuration file"
        made.add_argument("--spec", type=Path, metavar="FILE", help=help)
        made.add_argument(
            "--config", type=Path, default=Path("config.yaml"), help=f"configuration file with the {kind}"
        )
    return made


def add_inputs(arguments: argparse.ArgumentParser, others: str) -> None:
    """Let `--input NAME=PATH` name the files that a stage reads; `others` says what else may be named."""
    help = f"a file that is read, such as tokens=tokens/news/news-4k/index.json; {others}"
    arguments.add_argument("--input", action="append", default=[], type=named_path, metavar="NAME=PATH", help=help)


def named_path(text: str) -> tuple[str, Path]:
    """An input as an argument names it: `tokens=results/tokens/news/news-4k/index.json`."""
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected NAME=PATH")
    return name, Path(path)


def spec_of(args: argparse.Namespace, kind: str) -> dict:
    """The spec that the arguments give, for example of `--run tiny`."""
    if args.spec:
        return Spec(args.spec, read_spec(args.spec, dict))
    # Only people come this way; the workflow has checked its configuration already.
    from seedbed.config.load import load
    from seedbed.plan import Plan
    from seedbed.plan.specs import SPECS

    plan, (names, spec) = Plan(load(args.config)), SPECS[kind]
    if args.name not in names(plan):
        raise SeedbedError(f"{args.config}: no {kind} is called {args.name!r}{choices(args.name, names(plan))}")
    return spec(plan, args.name)


class Spec(dict):
    """A spec from a file; a key that it lacks is the mistake of who wrote it."""

    def __init__(self, path: Path, keys: dict) -> None:
        super().__init__(keys)
        self.path = path

    def __missing__(self, key: str) -> Any:
        raise SeedbedError(f"{self.path}: lacks the key {key!r}{choices(key, self)}")

    def __reduce__(self) -> tuple:
        return Spec, (self.path, dict(self))


def read_spec(path: Path, kind: type) -> Any:
    """The JSON in a file, a mapping or a list; raises SeedbedError where it is missing, no JSON or of another kind."""
    found = read_json(path)
    if not isinstance(found, kind):
        expected = {dict: "mapping", list: "list"}[kind]
        raise SeedbedError(f"{path}: found {shown(found)}, expected a {expected} as JSON")
    named = re.fullmatch(r"[a-z_]+-([0-9a-f]{16})", path.stem)  # by its content, as the workflow does
    if named and named[1] != (checksum := sha256_of(found)[:16]):
        raise SeedbedError(f"{path}: damaged: found sha256 {checksum}, expected {named[1]}; delete it and rerun")
    return found


# Bars of the hub are for terminals; elsewhere they would be a line a second.
if not sys.stderr.isatty():
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


class Reporter:
    """Messages to the terminal and to a log file; of several ranks only the first one speaks up."""

    def __init__(self, log: Path | None) -> None:
        self.log = log
        self.rank = rank()
        if log and "TORCHELASTIC_RUN_ID" not in os.environ:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text("", encoding="utf-8")

    def __call__(self, message: str) -> None:
        if self.rank == 0:
            print(message, file=sys.stderr, flush=True)
        if self.log:
            with self.log.open("a", encoding="utf-8") as stream:
                stream.write(message + "\n" if self.rank == 0 else f"rank {self.rank}: {message}\n")


NO_ANSWER = "EOF when reading a line"  # what `input` raises


def close_input() -> None:
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    if empty:
        os.close(empty)


@contextmanager
def reporting(log: Path | None) -> Iterator[Reporter]:
    """Run a script's work: a user's mistake ends it with one line, else there is a traceback; both are logged.

    Its standard input is empty from here on, and so is that of the processes it starts: nothing waits for an answer.
    """
    if log and log.is_dir():
        print(f"error: {log}: is a directory; expected a file for the log", file=sys.stderr)
        raise SystemExit(1)
    report = Reporter(log)
    close_input()
    try:
        yield report
    except SeedbedError as error:
        report(f"error: {error}")
        raise SystemExit(1) from None
    except EOFError as error:
        if str(error) != NO_ANSWER:
            report(traceback.format_exc())
        else:
            report("error: a library asks a question; expected none, as jobs run unattended")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        report("interrupted")
        raise SystemExit(130) from None
    except OSError as error:
        if error.errno is None:
            raise
        told = SeedbedError(f"{error.filename or 'file'}: {error.strerror}")
        report(f"error: {told}")
        raise SystemExit(1) from None
    except Exception:
        report(traceback.format_exc())
        raise SystemExit(1) from None
