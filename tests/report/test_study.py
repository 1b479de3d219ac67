from pathlib import Path

import pytest
from example_study import LOSS, RUNS, counting_samples, example_study, page_of, table_of
from support import change_summary, leave_run

from seedbed.report.results import StudyResults


@pytest.fixture
def study(tmp_path: Path) -> StudyResults:
    return example_study(tmp_path, plots=[LOSS])


def test_the_page_escapes_and_marks_what_it_shows(study: StudyResults) -> None:
    page = page_of(study)
    assert "<li><code>optimizer.lr</code>: 1, &lt;x&gt;</li>" in page
    assert "each trained on the same 40 tokens." in page
    assert "Trained elsewhere and measured as it is: <code>qwen</code>" in page
    assert '<td class="best">4.000</td>' in page
    assert "1 min 15 s" in page
    assert "against tokens seen" in page
    assert page.count("<figure>") == page.count("<svg") == 1


def test_a_study_may_have_no_evaluations(study: StudyResults) -> None:
    assert page_of(study).count("<h2>") == 3
    assert not any("." in column for column in table_of(study) if column != "optimizer.lr")


def test_runs_are_counted_in_their_own_units(study: StudyResults) -> None:
    page = page_of(counting_samples(study, "a"))
    assert "trained on the same" not in page
    assert "<th>samples or tokens/s</th>" in page and "against samples or tokens seen" in page
    assert "<td>4 samples</td>" in page and "<td>40 tokens</td>" in page
    page = page_of(counting_samples(study, *RUNS))
    assert "each trained on the same 4 samples." in page
    assert "<th>samples/s</th>" in page and "<td>4</td></tr>" in page


def test_what_was_trained_once_for_several_runs_is_told(study: StudyResults) -> None:
    assert "share their first steps" not in page_of(study)
    for run in RUNS:
        change_summary(study.results / "runs" / run, own_tokens=10)
    leave_run(study.results / "trunks" / "abc" / "30", [], {}, own_tokens=30)
    study.spec["trunks"].append("abc/30")
    assert "50 tokens in place of 80, 37.5% fewer" in page_of(study)


def test_loss_spikes_are_told(study: StudyResults) -> None:
    spikes = [
        {"step": 7, "loss": 9.25, "limit": 4.5, "back_to": 5, "skipped": 2},
        {"step": 9, "loss": None, "limit": None, "back_to": 5, "skipped": 4},
    ]
    change_summary(study.results / "runs" / "a", spikes=spikes)
    text = " ".join(page_of(study).split())
    assert "met 2 loss spikes and went back: step 7 (loss 9.25, limit 4.50) to 5, leaving out 2 batches;" in text
    assert "step 9 (loss not finite) to 5, leaving out 4 batches." in text
