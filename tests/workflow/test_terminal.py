"""What a person reads: which job of how many, how long, and last of all why it failed or where the reports are."""

import io
import logging
import sys
from pathlib import Path

import pytest
from snakemake_interface_logger_plugins.common import LogEvent
from support import ROOT, changed

sys.path.append(str(ROOT / "workflow" / "rules"))

import terminal as module
from terminal import Terminal, duration, why


class InTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def record(message: str | None, event: LogEvent | None = None, **facts: object) -> logging.LogRecord:
    made = logging.LogRecord("snakemake", facts.pop("level", logging.INFO), "", 0, message, (), None)
    made.__dict__.update(facts, event=event)
    return made


def job(number: int, what: str) -> logging.LogRecord:
    facts = {"rule_name": "pretrain", "rule_msg": what, "output": ["model"], "wildcards": {}, "reason": "none is there"}
    return record("", LogEvent.JOB_INFO, jobid=number, **facts)


def shown(*records: logging.LogRecord, stream: io.StringIO | None = None, **options: bool) -> list[str]:
    stream = stream or io.StringIO()
    made = Terminal(stream, **{"dry": False, "reasons": False} | options, targets=lambda: ["results/runs/tiny/model"])
    for one in records:
        made.emit(one)
    return stream.getvalue().splitlines()


PLANNED = record("Job stats: ...", LogEvent.RUN_INFO, stats={"pretrain": 2, "all": 1, "total": 3})


def test_jobs_are_counted_and_a_retry_keeps_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0, 1, 63, 64, 65])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    first = record("", LogEvent.JOB_FINISHED, job_id=4)
    again = record("Trying to restart job 7.")
    found = shown(PLANNED, record("Select jobs to execute..."), job(4, "A"), job(7, "B"), first, again, job(7, "B"))
    assert found == ["2 jobs", "[1/2] A", "[2/2] B", "done in 1:03: A", "Trying to restart job 7.", "[2/2] B"]


def test_a_dry_run_lists_what_would_run_and_its_reason_where_that_is_wanted() -> None:
    assert shown(PLANNED, job(4, "A"), PLANNED, dry=True) == ["A", "Job stats: ..."]
    assert shown(job(4, "A"), dry=True, reasons=True) == ["A", "    none is there"]


def test_a_line_takes_the_place_of_a_bar_in_a_terminal_only() -> None:
    assert shown(PLANNED, stream=InTerminal()) == ["", "\033[K2 jobs"]  # "\r" ends a line here
    assert shown(PLANNED) == ["2 jobs"]


def failure(log: Path) -> list[logging.LogRecord]:
    told = {"exception": "WorkflowError", "level": logging.ERROR}
    return [
        job(4, "Training tiny"),
        record("RuleException:\nCalledProcessError in file x", LogEvent.ERROR, **told),
        record("", LogEvent.JOB_ERROR, level=logging.ERROR, jobid=4, rule_name="pretrain", log=[str(log)]),
        record("WorkflowError:\nAt least one job did not complete successfully.", LogEvent.ERROR, **told),
    ]


def test_the_last_line_of_a_failure_is_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    log = tmp_path / "tiny.log"
    log.write_text("tiny: resumes at step 5\nerror: too large\nstopped\n")
    shown(*failure(log))
    assert capsys.readouterr().err.splitlines() == [f"failed: Training tiny (log: {log})", "error: too large"]


def test_a_job_without_an_error_line_ends_with_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"{number}\n" for number in range(100)) + "ValueError: bad\n")
    assert why([str(log)]).splitlines()[-1] == "ValueError: bad"
    assert len(why([str(log)]).splitlines()) == module.TAIL
    log.write_text("")
    assert why([str(log)]).startswith("error: killed, or ended without a message")
    assert why([str(tmp_path / "none"), str(log)]).startswith("error: killed, or ended without a message")


def test_a_success_takes_back_a_failure_that_was_retried() -> None:
    made = Terminal(io.StringIO(), dry=False, reasons=False, targets=list)
    made.text(record("", LogEvent.JOB_ERROR, jobid=4, rule_name="pretrain", log=["log"]))
    assert made.failed == {4: ["log"]}
    made.ends(4)
    assert made.failed == {}


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (3723, "1:02:03")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_real_failure_ends_with_its_reason(project) -> None:
    failed = project.run("--cores", "1", config=changed(project.config, "corpora.news.min_chars", 10**6)).stdout
    assert failed.splitlines()[-1].startswith("error: the corpus is empty after cleaning: 300 documents read")
    assert "--spec" not in failed


def test_at_the_end_stand_the_reports(finished_project) -> None:
    done = finished_project.run("--cores", "1", "--forcerun", "render_study", "--", "results/studies/batch/report.html")
    assert done.returncode == 0, done.stdout
    title = finished_project.config["studies"]["batch"]["title"]
    assert done.stdout.splitlines()[-1] == f"results/studies/batch/report.html  {title} (2 compared)"
