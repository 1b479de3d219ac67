"""A trained Thinker, loaded to answer."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from seedbed.errors import SeedbedError
from seedbed.files import read_json, read_tensors
from seedbed.objectives.thinker.batch import Batch
from seedbed.objectives.thinker.compute import measured
from seedbed.objectives.thinker.exported import CONFIG, WEIGHTS, Exported
from seedbed.objectives.thinker.flow import Row
from seedbed.objectives.thinker.geometry import Geometry
from seedbed.objectives.thinker.model import Question, Thinker, Thought
from seedbed.objectives.thinker.tasks import Problems, Task, layout_of, name_of
from seedbed.records import read_record
from seedbed.runs import verify_model


@dataclass
class Answerer:
    """The Thinker in a directory with `config.json` and `model.safetensors`; raises SeedbedError where it is none."""

    folder: Path

    def __post_init__(self) -> None:
        verify_model(self.folder)
        self.facts  # noqa: B018

    @cached_property
    def facts(self) -> Exported:
        """The contents of its `config.json`."""
        found = read_json(path := self.folder / CONFIG)
        if not (isinstance(found, dict) and found.get("model_type") == "thinker"):
            raise SeedbedError(f"{path}: is not of a Thinker; expected model_type 'thinker'")
        return read_record(path, Exported)

    @cached_property
    def model(self) -> Thinker:
        try:
            model = Thinker(Geometry.of(self.facts), self.facts["model"])
        except (ArithmeticError, KeyError, RuntimeError, TypeError, ValueError) as error:  # keys of another version
            raise SeedbedError(f"{self.folder / CONFIG}: describes no Thinker ({error!r})") from None
        weights = read_tensors(path := self.folder / WEIGHTS)
        try:
            model.load_weights(weights)
        except RuntimeError as error:
            raise SeedbedError(f"{path}: has other weights than {CONFIG} describes: {error}") from None
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return model.eval().to(device)

    @property
    def task_name(self) -> str:
        return name_of(self.facts["task"])

    @property
    def layout(self) -> Task:
        """What its task reads and answers."""
        return layout_of(self.facts["task"])

    def answer(
        self, task: str, sequence: list[int], n_latent: int | None = None, n_step: int | None = None
    ) -> list[int]:
        """The symbols that it answers a sequence with, for addition a pair of numbers the digits of their sum.

        Digits come the least significant first. Without `n_latent` and `n_step` it takes the most that it was trained
        with. Raises SeedbedError for another task than its own and for more positions or latents than it has.
        """
        if task != self.task_name:
            raise SeedbedError(f"{self.folder}: answers {self.task_name!r}; found the task {task!r}")
        problem = self.layout.read(list(sequence), self.facts["length"])
        found = self.answers(problem, n_latent, n_step)[-1][0].tolist()
        end = self.layout.outputs - 1
        ends = task == "addition" and self.facts["task"]["width"] == "variable" and end in found
        return found[: found.index(end)] if ends else found[: int(problem.target_lengths[0])]

    @torch.no_grad()
    def answers(
        self, problems: Problems, n_latent: int | None = None, n_step: int | None = None, every: bool = False
    ) -> np.ndarray:
        """Its answers [1, B, m] at the last step, or at `every` one: [steps, B, m].

        Raises SeedbedError for more positions or latents than it has.
        """
        n_latent, n_step = self.latents(n_latent), n_step or self.facts["n_step"][-1]
        batch = Batch.of(problems).to(next(self.model.parameters()).device)
        needed = len(batch.symbols), len(batch.targets)
        self.check_positions(*needed)
        compute = measured(self.facts, n_latent, n_step, max(needed), every)
        previous = None
        if self.model.answers is not None:
            previous = torch.full_like(batch.targets, self.model.start)
        question = Question(
            batch.symbols, batch.hidden, len(batch.targets), previous, compute.places.to(batch.symbols.device)
        )
        if previous is None:
            found = self.model(question, compute.rows, n_latent)
            return np.stack([scores.argmax(0).T.cpu().numpy() for scores in found])
        return self.one_by_one(question, compute.rows, n_latent).T.cpu().numpy()[None]

    def one_by_one(self, question: Question, rows: list[Row], n_latent: int | None) -> Tensor:
        """Answers [m, B], each made after those before it; the latents do not see them unless they are the outputs."""
        full = self.facts["model"]["decoding"] == "full_ar"
        last = max(number for number, row in enumerate(rows) if row.output)
        quiet = [replace(row, output=number == last) for number, row in enumerate(rows[: last + 1])]
        answered, thought = question.previous, None
        for place in range(question.outputs):
            question.previous, question.outputs = answered[: place + 1], place + 1
            if full or thought is None:
                thought = Thought(self.model, question, n_latent)
                scores = thought.run(quiet)[-1]
            else:
                scores = thought.answered(rows[last])
            chosen = scores[:, place].argmax(0)
            if place + 1 < len(answered):
                answered[place + 1] = chosen
        return torch.cat([answered[1:], chosen[None]])

    def latents(self, wanted: int | None) -> int | None:
        """How many latents to take; None where each position has its own."""
        trained, most = self.facts["n_latent"], self.model.geometry.latents
        if trained is None:
            if wanted:
                raise SeedbedError(f"{self.folder}: has as many latents as positions; found n_latent {wanted}")
            return None
        if wanted and wanted > most:
            raise SeedbedError(f"{self.folder}: has {most} latents; found n_latent {wanted}")
        return wanted or trained[-1]

    def check_positions(self, read: int, answered: int) -> None:
        geometry = self.model.geometry
        for needed, rows in ((read, geometry.input_positions), (answered, geometry.output_positions)):
            if rows and needed > rows:
                raise SeedbedError(f"{self.folder}: has {rows} positions; the sequence needs {needed}")
