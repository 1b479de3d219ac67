"""The files that a study's report is made of, read once."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from seedbed.errors import SeedbedError
from seedbed.evaluate.figures import read_measured
from seedbed.records import unusable
from seedbed.runs import MODEL, Costs, Line, Provenance, Summary, costs, metrics, model_files, provenance, summary


@dataclass(frozen=True)
class StudyResults:
    """A study (its spec) with the results directory that holds its runs and evaluations."""

    spec: dict
    results: Path

    @property
    def runs(self) -> list[str]:
        return [variant["run"] for variant in self.spec["variants"]]

    @property
    def subjects(self) -> list[str]:
        """What is evaluated: the runs, and the external models."""
        return self.runs + self.spec["models"]

    @cached_property
    def varied(self) -> dict[str, list[str]]:
        """The values of each varied key, in order."""
        values = [variant["values"] for variant in self.spec["variants"]]
        keys = [key for one in values[:1] for key in one if key != "run"]
        return {key: list(dict.fromkeys(one[key] for one in values)) for key in keys}

    @cached_property
    def labels(self) -> dict[str, str]:
        """What to call each run and model in a legend: the varied values of a run, or the name."""
        names = {subject: subject for subject in self.subjects}
        if not self.varied:
            return names
        short = {key: key.rsplit(".", 1)[-1] for key in self.varied}
        return names | {
            variant["run"]: ", ".join(f"{short[key]} {variant['values'][key]}" for key in self.varied)
            for variant in self.spec["variants"]
        }

    @cached_property
    def kinds(self) -> dict[str, tuple[str, ...]]:
        """What each run and model is but for the seed of a run, the same for runs that differ in nothing else."""
        varied = {
            variant["run"]: tuple(value for key, value in variant["values"].items() if key != "seed")
            for variant in self.spec["variants"]
        }
        return {subject: varied.get(subject, (subject,)) for subject in self.subjects}

    def summary(self, run: str) -> Summary:
        return summary(self.results / "runs" / run)

    def unit(self, run: str) -> str:
        """What a run counts."""
        return self.summary(run)["unit"]

    @property
    def units(self) -> str:
        """What the runs count, as a heading says it."""
        return " or ".join(dict.fromkeys(map(self.unit, self.runs)))

    def trunk(self, name: str) -> Costs:
        """The summary of the first steps that several runs share."""
        return costs(self.results / "trunks" / name)

    def provenance(self, run: str) -> Provenance:
        return provenance(self.results / "runs" / run)

    def metrics(self, run: str) -> list[Line]:
        return metrics(self.results / "runs" / run)

    def evaluation(self, subject: str, evaluation: str) -> dict:
        """What was measured; its kind says what that has.

        Raises SeedbedError where that is another evaluation, or one of other files than a run's.
        """
        path = self.results / "evaluations" / subject / f"{evaluation}.json"
        found = read_measured(path, self.spec["evaluations"][evaluation])
        if found["evaluation"] != evaluation:
            raise SeedbedError(f"{path}: is the evaluation {found['evaluation']!r}; expected {evaluation!r}")
        run, model = self.results / "runs" / subject, self.results / "models" / subject
        files = model_files(folder := run / MODEL if subject in self.runs else model)
        for name, checksum in found["model"]["sha256"].items():
            if name in files and files[name]["sha256"] != checksum:
                raise unusable(path, f"measured another model than {folder / name}")
        return found

    def measured(self, evaluation: str) -> dict[str, dict]:
        """The results of an evaluation by run or model."""
        return {subject: self.evaluation(subject, evaluation) for subject in self.subjects}
