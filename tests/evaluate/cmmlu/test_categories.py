import csv
from collections import Counter

import pytest
from support import ROOT

from seedbed.evaluate.cmmlu.categories import CHINA_SPECIFIC_SUBJECTS, CHINESE_NAMES, SUBJECTS, categories_of

REAL = ROOT / "shared" / "data" / "cmmlu"
MAIN = {"STEM", "Humanities", "Social Science", "Other"}


def test_every_subject_is_of_one_category_and_maybe_china_specific() -> None:
    for subject in SUBJECTS:
        category, *more = categories_of(subject)
        assert category in MAIN
        assert more == ["China specific"] * (subject in CHINA_SPECIFIC_SUBJECTS)


def test_categories_are_as_large_as_in_the_paper() -> None:
    counts = Counter(category for subject in SUBJECTS for category in categories_of(subject))
    assert counts == {"STEM": 17, "Humanities": 13, "Social Science": 22, "Other": 15, "China specific": 15}


def test_subjects_are_where_the_benchmark_puts_them() -> None:
    assert categories_of("anatomy") == ("STEM",)
    assert categories_of("computer_security") == ("Other",)
    assert categories_of("ancient_chinese") == ("Social Science", "China specific")
    assert categories_of("chinese_history") == ("Humanities", "China specific")
    assert categories_of("my_own_subject") == ()


def test_every_subject_has_a_name_of_its_own() -> None:
    assert len(CHINESE_NAMES) == len(set(CHINESE_NAMES.values())) == 67
    assert set(CHINESE_NAMES) == set(SUBJECTS)
    assert set(SUBJECTS) > CHINA_SPECIFIC_SUBJECTS
    assert CHINESE_NAMES["anatomy"] == "解剖学"


@pytest.mark.skipif(not REAL.exists(), reason="CMMLU may not be shipped; it is tested where it lies beside the project")
def test_categories_have_as_many_questions_as_in_the_paper() -> None:
    counts = Counter()
    for path in (REAL / "test").glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as stream:
            questions = sum(1 for _ in csv.DictReader(stream))
        counts.update(dict.fromkeys(categories_of(path.stem), questions))
    assert counts == {"STEM": 2531, "Humanities": 2489, "Social Science": 3652, "Other": 2910, "China specific": 2572}
