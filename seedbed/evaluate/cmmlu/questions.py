"""Multiple-choice questions in CMMLU's format (arXiv 2306.09212): CSV files per subject, or the hub."""

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from seedbed.errors import SeedbedError, shown
from seedbed.files import sha256_of
from seedbed.models.foreign import open_regular

LETTERS = "ABCD"
LONGEST = 1 << 17  # characters of a question or an option
COLUMNS = ("Question", *LETTERS, "Answer")
DEMONSTRATION = Path(__file__).parent / "demonstration"


@dataclass(frozen=True)
class Question:
    subject: str
    text: str
    options: tuple[str, str, str, str]
    answer: int


def load_questions(source: dict) -> tuple[dict[str, list[Question]], dict[str, list[Question]]]:
    """Demonstrations (dev) and test questions by subject."""
    if "hub" in source:
        return hub_questions(source)
    folder = DEMONSTRATION if "demonstration" in source else Path(source["files"])
    subjects = sorted(path.stem for path in (folder / "test").glob("*.csv"))
    if not subjects:
        raise SeedbedError(f"{folder}: no test/<subject>.csv there")
    read = {
        split: {name: read_csv(folder / split / f"{name}.csv", name) for name in subjects} for split in ("dev", "test")
    }
    return read["dev"], read["test"]


def read_csv(path: Path, subject: str) -> list[Question]:
    try:
        with open_regular(path, str(path)) as raw, io.TextIOWrapper(raw, encoding="utf-8", newline="") as stream:
            csv.field_size_limit(LONGEST)  # which all readers of a process share
            return questions(csv.DictReader(stream), subject, str(path))
    except UnicodeDecodeError as error:
        raise SeedbedError(f"{path}: not UTF-8 ({error.reason})") from None
    except csv.Error as error:
        raise SeedbedError(f"{path}: not valid CSV ({error})") from None


def hub_questions(source: dict) -> tuple[dict, dict]:
    import datasets

    try:
        names = datasets.get_dataset_config_names(source["hub"], revision=source["revision"])
        loaded = {
            name: datasets.load_dataset(source["hub"], name, revision=source["revision"]) for name in sorted(names)
        }
    except Exception as error:  # the hub client raises its own, urllib's and fsspec's
        raise SeedbedError(
            f"hub dataset {source['hub']}: {(str(error) or type(error).__name__).splitlines()[0]}"
        ) from None
    for name, data in loaded.items():
        if missing := {"dev", "test"} - set(data):
            raise SeedbedError(f"hub dataset {source['hub']}: {name}: has no split {min(missing)!r}")
    read = {
        split: {name: questions(data[split], name, f"{source['hub']}:{name}:{split}") for name, data in loaded.items()}
        for split in ("dev", "test")
    }
    return read["dev"], read["test"]


def questions(records: Iterable[dict], subject: str, where: str) -> list[Question]:
    found = []
    for number, record in enumerate(records, start=1):
        missing = [column for column in COLUMNS if record.get(column) is None]
        if missing:
            raise SeedbedError(f"{where}: record {number}: no column {missing[0]!r}; expected {', '.join(COLUMNS)}")
        for column in COLUMNS:
            if not isinstance(record[column], str):
                raise SeedbedError(f"{where}: record {number}: {column}: found {shown(record[column])}; expected text")
        letter = record["Answer"].strip()
        if letter not in LETTERS or len(letter) != 1:
            raise SeedbedError(f"{where}: record {number}: Answer is {letter!r}, expected one of {', '.join(LETTERS)}")
        options = tuple(record[option] for option in LETTERS)
        found.append(Question(subject, record["Question"], options, LETTERS.index(letter)))
    if not found:
        raise SeedbedError(f"{where}: no question there")
    return found


def questions_identity(dev: dict[str, list[Question]], test: dict[str, list[Question]]) -> str:
    """Checksum of all questions, those that demonstrate included."""
    return sha256_of(
        [[asdict(question) for name in sorted(split) for question in split[name]] for split in (dev, test)]
    )
