"""A Thinker under evaluation."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from seedbed.checksums import sha256
from seedbed.errors import SeedbedError
from seedbed.objectives.thinker.answerer import Answerer
from seedbed.objectives.thinker.exported import CONFIG, TASK, Exported
from seedbed.objectives.thinker.tasks import Task, task_of
from seedbed.runs import MODEL, Line, metrics, provenance


@dataclass
class ThinkerSubject:
    """The Thinker of a finished run's directory."""

    run: Path

    @classmethod
    def of_run(cls, run: Path, tokens: Path | None = None, **options: object) -> "ThinkerSubject":
        """The Thinker of a finished run's directory."""
        if not (run / MODEL / CONFIG).exists():
            raise SeedbedError(f"{run}: has no model/config.json; expected the run of a Thinker")
        return cls(run)

    @classmethod
    def of_model(cls, folder: Path, tokens: Path | None = None, **options: object) -> "ThinkerSubject":
        raise SeedbedError(f"{folder}: an external model is no Thinker; expected a run of one")

    @property
    def folder(self) -> Path:
        return self.run / MODEL

    @cached_property
    def answerer(self) -> Answerer:
        return Answerer(self.folder)

    @property
    def facts(self) -> Exported:
        """The contents of its `config.json`."""
        return self.answerer.facts

    @cached_property
    def task(self) -> Task:
        """Its task; that of a file of the user's is the copy that was trained on."""
        if "python" not in self.facts["task"]:
            return task_of(self.facts["task"])
        file, trained = self.folder / TASK, provenance(self.run)["inputs"]["task"]
        if sha256(file) != trained:
            raise SeedbedError(f"{file}: is not what was trained on; expected the checksum {trained}")
        return task_of(self.facts["task"], file)

    @cached_property
    def metrics(self) -> list[Line]:
        """The lines of its training."""
        return metrics(self.run)

    def identity(self) -> dict:
        """Path and checksums of the files that determine what it computes."""
        files = [path for path in sorted(self.folder.iterdir()) if path.suffix in (".safetensors", ".json", ".py")]
        return {"path": str(self.folder), "sha256": {path.name: sha256(path) for path in files}}

    def data_identity(self) -> None:
        """Problems are generated."""
        return None
