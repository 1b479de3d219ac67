"""What a person reads while the workflow runs: which job, how many of how many, how long, and at last why it failed."""

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import TextIO

from snakemake.logging import logger
from snakemake.settings.enums import Quietness
from snakemake.settings.types import OutputSettings
from snakemake_interface_logger_plugins.common import LogEvent

WORTH_TELLING = 10  # seconds from which on a job tells how long it took
TAIL = 20  # lines of a log that has no `error:`
# Plain messages of Snakemake that tell nothing: not what runs, how far, or why not.
DROPPED = re.compile(
    "Assuming unrestricted|Building DAG|Using shell|Conda environments|Select jobs|Execute [0-9]+ jobs|Complete log|"
    "Elapsed time|Exiting because|Shutting down, this|Removing output files of failed|Storing output in storage"
)
CLEAR = "\r\033[K"  # a job's progress bar may stand in the line


class Terminal(logging.Handler):
    """In place of Snakemake's own handler: a line for each job, and for a failure the last line of its log.

    `targets` gives the rules and files that can be asked for.
    """

    def __init__(self, stream: TextIO, dry: bool, reasons: bool, targets: Callable[[], Iterable[str]]) -> None:
        super().__init__()
        self.stream, self.dry, self.reasons, self.targets = stream, dry, reasons, targets
        self.total = 0
        self.jobs: dict[int, str] = {}  # what each job that has begun does
        self.begun: dict[int, float] = {}
        self.failed: dict[int, list[str]] = {}  # logs of jobs that failed, and did not succeed since

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if text := self.text(record):
                # A dry run goes to the standard output, its failure does not.
                stream = sys.stderr if record.levelno >= logging.ERROR else self.stream
                stream.write(f"{CLEAR if stream.isatty() else ''}{text}\n")
                stream.flush()
        except BrokenPipeError:  # as of `snakemake -n | head`: nobody reads on
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except Exception:
            self.handleError(record)

    def text(self, record: logging.LogRecord) -> str | None:
        match getattr(record, "event", None):
            case LogEvent.RUN_INFO:
                return self.planned(record)
            case LogEvent.JOB_INFO:
                return self.begins(record)
            case LogEvent.JOB_FINISHED:
                return self.ends(record.job_id)
            case LogEvent.JOB_ERROR:
                self.failed[record.jobid] = record.log
                return f"failed: {self.jobs.get(record.jobid, record.rule_name)} (log: {', '.join(record.log)})"
            case LogEvent.ERROR:
                return self.error(record)
            case LogEvent.SHELLCMD:
                return record.shellcmd
            case LogEvent.PROGRESS | LogEvent.RESOURCES_INFO | LogEvent.JOB_STARTED:
                return None
        message = record.getMessage()
        return None if message == "None" or DROPPED.match(message) else message.rstrip()

    def planned(self, record: logging.LogRecord) -> str | None:
        first, self.total = not self.total, record.stats["total"] - record.stats.get("all", 0)
        if self.dry:
            return None if first else record.getMessage()  # it comes again, after the jobs
        return f"{self.total} jobs"

    def begins(self, record: logging.LogRecord) -> str | None:
        if not record.output:  # `all`
            return None
        what = record.rule_msg or f"{record.rule_name} {' '.join(record.wildcards.values())}".strip()
        self.jobs[record.jobid], self.begun[record.jobid] = what, time.monotonic()
        if self.dry:
            return f"{what}\n    {record.reason}" if self.reasons else what
        number = list(self.jobs).index(record.jobid) + 1
        return f"[{number:>{len(str(self.total))}}/{self.total}] {what}"

    def ends(self, job: int) -> str | None:
        self.failed.pop(job, None)
        seconds = time.monotonic() - self.begun.get(job, time.monotonic())
        return f"done in {duration(seconds)}: {self.jobs[job]}" if seconds >= WORTH_TELLING else None

    def error(self, record: logging.LogRecord) -> str | None:
        message = record.getMessage()
        if "CalledProcessError" in message:  # the whole command of a job, which is told to have failed anyway
            return None
        if told := re.search(r"^ *(error: .+)$", message, re.MULTILINE):  # raised by a function of ours, and where
            return told[1]
        if missing := re.search(r"No rule to produce (.+?) \(if", message):
            near = get_close_matches(missing[1], list(self.targets()), n=1)
            hint = f"did you mean {near[0]!r}?" if near else "expected a rule, or a file that one makes"
            return f"error: no rule is called or makes {missing[1]!r}; {hint}"
        if self.failed and "At least one job did not complete" in message:
            return "\n".join(why(logs) for logs in self.failed.values())
        return message


def take_terminal(settings: OutputSettings, targets: Callable[[], Iterable[str]]) -> None:
    """Replace Snakemake's own handler, not what it filters by `--quiet`; a logger chosen with `--logger` stays."""
    reasons = not {Quietness.REASON, Quietness.ALL} & set(settings.quiet or ())
    for handler in [handler for handler in logger.handlers if handler.name == "DefaultStreamHandler"]:
        terminal = Terminal(handler.stream, settings.dryrun, reasons, targets)
        terminal.filters = handler.filters
        logger.removeHandler(handler)
        logger.addHandler(terminal)


def why(logs: list[str]) -> str:
    """The reason of a failure as the logs of its job tell it."""
    texts = [Path(log).read_text("utf-8", "replace") if Path(log).is_file() else "" for log in logs]
    for text in texts:
        if errors := [line for line in text.splitlines() if line.startswith("error: ")]:
            return errors[-1]
    lines = "\n".join(texts).splitlines()[-TAIL:]
    return "\n".join(lines) or f"error: killed, or ended without a message (log {logs[0]}); the same command resumes it"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds: `1:02:03` or `2:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
