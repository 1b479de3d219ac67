from pathlib import Path

from example_study import RUNS, counting_samples, example_study, table_of


def test_the_table_has_a_row_per_run_and_model(tmp_path: Path) -> None:
    table = table_of(example_study(tmp_path))
    assert list(table["run"]) == [*RUNS, "qwen"]
    assert list(table["optimizer.lr"])[:2] == ["1", "<x>"]
    assert table["tokens"].isna().tolist() == table["optimizer.lr"].isna().tolist() == [False, False, True]


def test_a_run_is_counted_in_its_own_unit(tmp_path: Path) -> None:
    table = table_of(counting_samples(example_study(tmp_path, models=[]), "a"))
    assert table["samples"].isna().tolist() == table["samples_per_second"].isna().tolist() == [False, True]
    assert table["tokens"].isna().tolist() == table["tokens_per_second"].isna().tolist() == [True, False]
