"""What a finished run leaves in its directory: run.json, summary.json, metrics.jsonl and model/.

`run.json` has the checksums of all the others; whoever reads them, reads them through this module.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict

from seedbed.checksums import FileFacts, Inside, described_names, mismatch, verify, verify_files
from seedbed.errors import SeedbedError
from seedbed.files import read_jsonl
from seedbed.records import Record, checked, read_record

RUN, SUMMARY, METRICS, MODEL = "run.json", "summary.json", "metrics.jsonl", "model"
ADOPTED = "adopted.json"  # in the directory of an external model, with the checksums of its files


def numbers_besides(kind: type) -> AfterValidator:
    """Accept only numbers and null under keys that the type does not name."""

    def check(value: dict) -> dict:
        for key, found in value.items():
            if key not in kind.__annotations__ and found is not None and type(found) not in (int, float):
                raise ValueError(f"{key}: expected a number")
        return value

    return AfterValidator(check)


class Line(Record):
    """A line of metrics: also the units trained on, their speed, validation (`valid_...`) and diagnostics."""

    __pydantic_config__ = ConfigDict(extra="allow", allow_inf_nan=False)

    step: int
    seconds: float
    loss: float
    lr: float
    grad_norm: float


class Spike(Record):
    """A loss spike at a step, and the step that training went back to; loss and limit are None where not finite."""

    step: int
    loss: float | None
    limit: float | None
    back_to: int
    skipped: int


class Interval(Record):
    """The steps since the last line of metrics: their losses by rank."""

    step: int
    seconds: float
    losses: list[list[float]]
    grad_norm: float


class Watch(Record):
    recent: list[float]
    skipped: int
    met: list[Spike]


class Manifest(Record):
    """manifest.json of a checkpoint: the training state besides tensors, and its files; written last."""

    step: int
    identity: str
    precision: str
    begun: int
    seconds: float
    watch: Watch
    plateau: dict[str, float | int | None]
    interval: Interval
    files: dict[Inside, FileFacts]


class Costs(Record):
    """summary.json of a trunk; also the amount of the unit, `own_<unit>` and `<unit>_per_second`."""

    __pydantic_config__ = ConfigDict(extra="allow", allow_inf_nan=False)

    run: str
    identity: str
    unit: str
    steps: int
    seconds: float
    devices: int
    device_hours: float
    peak_memory_bytes: dict[str, int]
    spikes: list[Spike]


class Summary(Costs):
    """summary.json of a run; also validation figures (`valid_...`)."""

    parameters: int
    trained_parameters: int
    epochs: float | None
    loss: float
    valid_loss: float


class Provenance(Record):
    """run.json: identity, computation, and the files beside it by relative path; also what an objective adds."""

    __pydantic_config__ = ConfigDict(extra="allow", allow_inf_nan=False)

    run: str
    identity: str
    spec: dict[str, Any]
    precision: str
    execution: dict[str, Any]
    inputs: dict[str, str]
    git: str | None
    software: dict[str, str | None]
    machine: dict[str, Any]
    files: dict[Inside, FileFacts]


class Adopted(Record):
    """adopted.json: where an external model came from, and its files."""

    source: str
    revision: str | None
    files: dict[Inside, FileFacts]


def with_unit(kind: type) -> Any:
    """A summary whose unit is there, and numbers besides."""

    def check(value: dict) -> dict:
        unit = value["unit"]
        for key in (unit, f"own_{unit}", f"{unit}_per_second"):
            if key not in value:
                raise ValueError(f"{key}: missing")
        return value

    return Annotated[kind, numbers_besides(kind), AfterValidator(check)]


COSTS, SUMMARIES, LINES = with_unit(Costs), with_unit(Summary), Annotated[Line, numbers_besides(Line)]


def provenance(run: Path) -> Provenance:
    """`run.json` of a run."""
    return read_record(run / RUN, Provenance)


def summary(run: Path) -> Summary:
    """The summary of a run, verified."""
    return costs(run, SUMMARIES)


def costs(run: Path, kind: Any = COSTS) -> Costs:
    """What a run or a trunk took, verified."""
    verify(run / SUMMARY, files_of(run)[SUMMARY], run / RUN)
    return read_record(run / SUMMARY, kind)


def metrics(run: Path) -> list[Line]:
    """The lines of a run's metrics, verified."""
    verify(run / METRICS, files_of(run)[METRICS], run / RUN)
    return lines(run / METRICS)


def lines(path: Path) -> list[Line]:
    return checked(list[LINES], read_jsonl(path), path)


def files_of(run: Path) -> dict[str, FileFacts]:
    files = provenance(run)["files"]
    for name in (METRICS, SUMMARY):
        if name not in files:
            raise SeedbedError(f"{run / RUN}: files: has no {name}")
    return files


def damage(run: Path) -> str | None:
    """What is wrong with the files that a run left, if anything is."""
    try:
        files = files_of(run)
    except SeedbedError as error:
        return str(error).removeprefix(f"{run}/")
    found = ((name, mismatch(run / name, facts)) for name, facts in files.items())
    return next((f"{name}: {problem}" for name, problem in found if problem), None)


def model_files(folder: Path) -> dict[str, FileFacts]:
    """The files of a run's or an adopted model as they were written; none where nobody wrote them down."""
    if (folder / ADOPTED).exists():
        return read_record(folder / ADOPTED, Adopted)["files"]
    if folder.name == MODEL and (folder.parent / RUN).exists():
        files, below = files_of(folder.parent), f"{MODEL}/"
        return {name.removeprefix(below): facts for name, facts in files.items() if name.startswith(below)}
    return {}


def verify_model(folder: Path) -> None:
    """Raise SeedbedError where a file of a run's or an adopted model is not what it was; others are not known.

    Nor may there be further ones, which transformers would read.
    """
    again = folder if (folder / ADOPTED).exists() else folder.parent / RUN
    if files := model_files(folder):
        verify_files(folder, files, again)
        if strangers := sorted(described_names(folder) - files.keys() - {ADOPTED}):
            raise SeedbedError(f"{folder / strangers[0]}: is not of the model as it was made; `rm` it, and rerun")
