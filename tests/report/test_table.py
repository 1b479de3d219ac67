from pathlib import Path

import pytest
from example_study import RUNS, counting_samples, example_study, table_of
from support import change

from seedbed.errors import SeedbedError
from seedbed.records import write_record
from seedbed.report.table import Table, read_rows, study_rows


def test_the_table_has_a_row_per_run_and_model(tmp_path: Path) -> None:
    table = table_of(example_study(tmp_path))
    assert list(table["run"]) == [*RUNS, "qwen"]
    assert list(table["optimizer.lr"])[:2] == ["1", "<x>"]
    assert table["tokens"].isna().tolist() == table["optimizer.lr"].isna().tolist() == [False, False, True]


def test_a_run_is_counted_in_its_own_unit(tmp_path: Path) -> None:
    table = table_of(counting_samples(example_study(tmp_path, models=[]), "a"))
    assert table["samples"].isna().tolist() == table["samples_per_second"].isna().tolist() == [False, True]
    assert table["tokens"].isna().tolist() == table["tokens_per_second"].isna().tolist() == [True, False]


def test_the_table_of_another_study_is_told(tmp_path: Path) -> None:
    path = tmp_path / "studies" / "mine" / "table.json"
    write_record(path, Table, {"study": "mine", "rows": [{"run": "a"}]})
    assert read_rows(tmp_path, "mine") == [{"run": "a"}]
    write_record(path, Table, {"study": "other", "rows": [{"run": "a"}]})
    with pytest.raises(SeedbedError, match=f"{path}: is of the study 'other'; expected 'mine'"):
        read_rows(tmp_path, "mine")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"steps": "4"}, "steps: expected a number"),
        ({"valid_loss": None}, "valid_loss: expected a number"),
        ({"tokens_per_second": None}, "tokens_per_second: expected a number"),
    ],
    ids=str,
)
def test_a_row_of_a_run_has_its_costs(tmp_path: Path, changes: dict, told: str) -> None:
    rows = study_rows(example_study(tmp_path))
    path = tmp_path / "studies" / "s" / "table.json"
    write_record(path, Table, {"study": "s", "rows": rows})
    assert read_rows(tmp_path, "s") == rows
    change(path, rows=[rows[0] | changes])
    with pytest.raises(SeedbedError, match=f"{path}: rows.0: {told}"):
        read_rows(tmp_path, "s")


def test_a_row_of_a_run_has_a_unit(tmp_path: Path) -> None:
    with pytest.raises(SeedbedError, match="rows.0: expected a key that ends in _per_second"):
        write_record(tmp_path / "table.json", Table, {"study": "s", "rows": [{"run": "a", "steps": 1}]})
