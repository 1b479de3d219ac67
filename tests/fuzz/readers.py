"""What reads files of another stage: which files, and what comes out, in a form that can be compared."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzz.chain import STEPS, Chain, configuration

from seedbed.config.fields import without
from seedbed.config.load import check
from seedbed.data.contexts import Contexts, build_contexts
from seedbed.data.tokenizer import build_tokenizer
from seedbed.data.tokens import TokenSplit, build_tokens
from seedbed.evaluate.cmmlu.contamination import find
from seedbed.evaluate.job import evaluate, subject_of
from seedbed.files import remove
from seedbed.models import lookup
from seedbed.models.external import adopt_model
from seedbed.objectives.icae.compressor import Compressor
from seedbed.objectives.thinker.answerer import Answerer
from seedbed.objectives.thinker.tasks import Task, generate
from seedbed.plan import Plan, specs
from seedbed.plan.forecast import forecast, measured_speeds
from seedbed.report.draw import write_plots
from seedbed.report.milestones import milestones_page
from seedbed.report.study import study_page
from seedbed.report.table import read_rows, study_rows
from seedbed.runs import METRICS, MODEL, RUN, SUMMARY, lines
from seedbed.train.checkpoints import Checkpoint, each_intact, opened
from seedbed.train.job import Job
from seedbed.train.launch import finished, publish
from seedbed.train.resume import initial_tensors, latest
from seedbed.train.trainer import new_objective

Report = Callable[[str], None]
TOLD, SILENT, LOOSE = "told", "silent", "loose"


@dataclass(frozen=True)
class Reader:
    """`read` reads the files below `places` of a chain.

    `lenient` says what it may do about damage besides refusing it: leave parts out, which it tells (TOLD) or which
    shows (SILENT); or read files that nothing describes (LOOSE). `known` has all the parts that it may come back with.
    """

    name: str
    places: tuple[str, ...]
    read: Callable[[Chain, Report], Any]
    lenient: str = ""
    known: Callable[[Chain, Report], dict] | None = None
    writes: bool = False  # below the results


def digest(value: Any) -> Any:
    """A value with checksums in place of tensors and arrays."""
    if isinstance(value, torch.Tensor):
        value = value.detach().contiguous().view(torch.uint8).numpy() if value.dim() else value.item()
    if isinstance(value, np.ndarray):
        return f"{value.shape} {value.dtype} {hashlib.sha256(np.ascontiguousarray(value)).hexdigest()}"
    if is_dataclass(value):
        value = vars(value)
    if isinstance(value, dict):
        return {str(key): digest(inner) for key, inner in value.items()}
    return [digest(inner) for inner in value] if isinstance(value, list | tuple) else value


def weights(model: torch.nn.Module) -> dict:
    return digest(dict(model.state_dict()))


def checksums(folder: Path, *leave_out: str) -> dict:
    """Checksums of the files below a directory."""
    found = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    kept = {name: path for name, path in found.items() if not name.startswith(leave_out or "\n")}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in kept.items()}


def out_of(chain: Chain) -> Path:
    """An empty place to write to."""
    out = chain.root.parent / "out"
    remove(out)
    return out


# --- data ------------------------------------------------------------------------------------------------------------


def tokenizer(chain: Chain, _: Report) -> dict:
    out = out_of(chain)
    build_tokenizer(specs.tokenizer_spec(chain.plan, "small"), chain.root / "corpora" / "news", out)
    return checksums(out)


def tokens(chain: Chain, _: Report) -> dict:
    out = out_of(chain)
    build_tokens(chain.root / "corpora" / "news", chain.root / "tokenizers" / "small", out)
    return checksums(out)


def contexts(chain: Chain, _: Report) -> dict:
    out, spec = out_of(chain), specs.contexts_spec(chain.plan, "news")
    build_contexts(spec, chain.root / "corpora" / "news", chain.root / "tokenizers" / "small", out)
    return checksums(out)


def contamination(chain: Chain, _: Report) -> Any:
    return find(specs.contamination_spec(chain.plan, "questions")["source"], chain.root / "corpora" / "news")


def splits(chain: Chain, _: Report) -> list:
    return [of_split(TokenSplit(chain.root / "tokens" / "news" / "small", name)) for name in ("train", "valid", "test")]


def of_split(split: TokenSplit) -> list:
    return [digest(split.read(0, len(split))), split.documents, split.words, split.characters, split.eos_id]


def windows(chain: Chain, _: Report) -> list:
    found = [Contexts(chain.root / "contexts" / "news" / "small", name, 16, 8, 0) for name in ("train", "held_out")]
    return [[of_split(one.split), digest([one.window(number) for number in range(one.per_epoch)])] for one in found]


def adopted(chain: Chain, _: Report) -> dict:
    out = out_of(chain)
    adopt_model(specs.model_spec(chain.plan, "other"), out)
    return checksums(out)


# --- training --------------------------------------------------------------------------------------------------------


def objective(name: str, chain: Chain, told: Report) -> dict:
    job = chain.job(name, told)
    found = {"identity": job.identity, "checksums": job.checksums}
    made = new_objective(job)
    found |= {
        "weights": weights(made.loss_module),
        "train": digest(made.batch(range(3))),
        "valid": digest(made.validation_batch(range(2))),
    }
    return found | {"initial": digest(initial_tensors(job, None))}


def whole(checkpoint: Checkpoint) -> dict:
    tensors = [digest(checkpoint.tensors(name)) for name in ("weights", "optimizer", "objective")]
    return {str(checkpoint.step): [tensors, checkpoint.manifest, lines(checkpoint.metrics)]}


def intact(chain: Chain, told: Report) -> dict:
    found = {}
    for checkpoint in each_intact(chain.job("base", told).store, told):
        found |= whole(checkpoint)
    return found


def every_checkpoint(chain: Chain, told: Report) -> dict:
    return whole(opened(chain.trunk)) | intact(chain, told)


def resumed(job: Job) -> dict:
    found = latest(job, STEPS, STEPS)
    if isinstance(found, Exception):
        raise found
    return whole(found) if found else {}


def own_or_trunk(chain: Chain, told: Report) -> dict:
    return resumed(chain.job("base", told))


def sibling(chain: Chain, told: Report) -> dict:
    """A run that differs in how long it trains."""
    job = chain.job("base", told)
    spec = job.spec | {"budget": job.spec["budget"] | {"steps": STEPS + 2}}
    return resumed(replace(job, spec=spec, inputs=without(job.inputs, "trunk")))


def published(name: str, chain: Chain, told: Report) -> dict:
    job = chain.job(name, told) if name != "trunk" else replace(chain.trunk_job, report=told)
    if not finished(job):
        return {}
    for left in (MODEL, METRICS, SUMMARY, RUN, "tensorboard", str(job.until)):
        remove(job.out / left)
    publish(job)
    return checksums(job.out, "checkpoints", "tensorboard")


# --- evaluation and report -------------------------------------------------------------------------------------------


def opened_subject(evaluation: str, name: str, chain: Chain, _: Report) -> dict:
    spec = specs.evaluation_spec(chain.plan, evaluation)
    tokens = dict(chain.evaluation_inputs(evaluation, name)).get("tokens")
    subject = subject_of(spec, *chain.place(name), tokens and tokens.parent, 0)
    found = {"identity": subject.identity(), "data": subject.data_identity()}
    if evaluation == "answers":
        return found | {
            "weights": weights(subject.answerer.model),
            "metrics": subject.metrics,
            "task": answers(subject.task),
        }
    found |= {
        "weights": weights(subject.model),
        "config": subject.model.config.to_dict() if evaluation != "memory" else 0,
    }
    if evaluation == "memory":
        found |= {"windows": digest(Contexts(subject.data, "held_out", 16, 8, 0).at(0))}
        return found | {"facts": subject.facts, "end": subject.end, "ordinary": digest(subject.ordinary)}
    words = subject.tokenizer("今天 经济").input_ids
    return found | {"begin": subject.begin, "words": words, "split": of_split(subject.split("test"))}


def answers(task: Task) -> dict:
    return digest(generate(task, "test", 0, range(4), 1, 6))


def measured(evaluation: str, name: str, chain: Chain, _: Report) -> dict:
    spec, inputs = specs.evaluation_spec(chain.plan, evaluation), chain.evaluation_inputs(evaluation, name)
    out = out_of(chain) / "measured.json"
    return without(evaluate(evaluation, spec, *chain.place(name), inputs, out), "seconds")


def table(name: str, chain: Chain, _: Report) -> list:
    return study_rows(chain.study(name))


def page(name: str, chain: Chain, _: Report) -> str:
    return study_page(chain.study(name), chain.root / "studies" / name / "plots")


def drawn(name: str, chain: Chain, _: Report) -> dict:
    out = out_of(chain)
    write_plots(chain.study(name), out)
    return checksums(out)


def milestones(chain: Chain, _: Report) -> str:
    every = specs.study_specs(chain.plan)
    return milestones_page([(spec, read_rows(chain.root, spec["name"])) for spec in every])


def loaded(name: str, chain: Chain, _: Report) -> dict:
    return from_directory(chain.run(name) / MODEL)


def moved(name: str, chain: Chain, _: Report) -> dict:
    """A model's directory elsewhere; nothing describes its files."""
    out = out_of(chain) / name / MODEL
    out.parent.mkdir(parents=True)
    (chain.run(name) / MODEL).rename(out)
    return from_directory(out, chain.run("base") / MODEL)


def from_directory(folder: Path, base: Path | None = None) -> dict:
    if "thinker" in str(folder):
        made = Answerer(folder)
        return {"weights": weights(made.model), "facts": made.facts}
    made = Compressor(folder, base)
    return {"weights": weights(made.model), "facts": made.facts, "end": made.end}


# --- planning --------------------------------------------------------------------------------------------------------


def speeds(chain: Chain, _: Report) -> dict:
    return measured_speeds(chain.root)


def facts(chain: Chain, _: Report) -> dict:
    return lookup.kept(chain.root / lookup.PLACE)


def planned(chain: Chain, _: Report) -> dict:
    return dict(enumerate(forecast(Plan(check(configuration(chain.root)))).splitlines()))


CORPUS, SMALL, OTHER = "corpora/news", "tokenizers/small", "models/other"
TOKENS, CONTEXTS = "tokens/news/small", "contexts/news/small"
EVALUATIONS = {"texts": ("base", "other"), "tuned": ("tuned",), "memory": ("icae", "lora"), "tasks": ("thinker",)}


def left_by(*runs: str) -> tuple[str, ...]:
    return tuple(f"runs/{run}/{part}" for run in runs for part in (MODEL, RUN, SUMMARY, METRICS))


def of_study(name: str) -> tuple[str, ...]:
    subjects = EVALUATIONS[name]
    return (*(f"evaluations/{subject}" for subject in subjects), *left_by(*(one for one in subjects if one != "other")))


EVERY = [
    Reader("tokenizer", (CORPUS,), tokenizer),
    Reader("tokens", (CORPUS, SMALL), tokens),
    Reader("contexts", (CORPUS, SMALL), contexts),
    Reader("contamination", (CORPUS,), contamination),
    Reader("splits", (TOKENS,), splits),
    Reader("windows", (CONTEXTS,), windows),
    Reader("adopted", ("sources/other",), adopted, LOOSE),
    Reader("lm", (TOKENS, SMALL), partial(objective, "base")),
    Reader("lm from a model", (TOKENS, SMALL, *left_by("base")), partial(objective, "tuned")),
    Reader("lm from a checkpoint", (TOKENS, SMALL, "trunks"), partial(objective, "branched")),
    Reader("icae", (CONTEXTS, SMALL), partial(objective, "icae")),
    Reader("icae from a model", (CONTEXTS, SMALL, *left_by("base")), partial(objective, "lora")),
    Reader("thinker from a model", left_by("thinker"), partial(objective, "thought")),
    Reader("intact", ("runs/base/checkpoints",), intact, TOLD),
    Reader("resumed", ("runs/base/checkpoints", "trunks"), own_or_trunk, TOLD, every_checkpoint),
    Reader("sibling", ("runs/base/checkpoints",), sibling, SILENT, every_checkpoint),
    *(
        Reader(f"published {name}", (f"runs/{name}/checkpoints",), partial(published, name), TOLD, writes=True)
        for name in ("base", "icae", "lora", "thinker")
    ),
    Reader("published trunk", ("trunks",), partial(published, "trunk"), TOLD, writes=True),
    Reader("base measured", (*left_by("base"), TOKENS), partial(opened_subject, "perplexity", "base")),
    Reader("other measured", (OTHER, "tokens/news/other"), partial(opened_subject, "perplexity", "other")),
    Reader("icae measured", (*left_by("icae"), CONTEXTS), partial(opened_subject, "memory", "icae")),
    Reader("lora measured", (*left_by("lora", "base"), CONTEXTS), partial(opened_subject, "memory", "lora")),
    Reader("thinker measured", left_by("thinker"), partial(opened_subject, "answers", "thinker")),
    Reader("questions", ("contamination",), partial(measured, "questions", "base")),
    *(Reader(f"table of {name}", of_study(name), partial(table, name)) for name in EVALUATIONS),
    *(
        Reader(f"page of {name}", (*of_study(name), f"studies/{name}/plots"), partial(page, name))
        for name in EVALUATIONS
    ),
    *(Reader(f"plots of {name}", of_study(name), partial(drawn, name)) for name in EVALUATIONS),
    Reader("page of a trunk", ("trunks",), partial(page, "texts")),
    Reader("milestones", ("studies",), milestones),
    *(Reader(f"{name} loaded", left_by(name), partial(loaded, name)) for name in ("thinker", "icae")),
    Reader("lora loaded", left_by("lora", "base"), partial(loaded, "lora")),
    *(
        Reader(f"{name} moved", (f"runs/{name}/model",), partial(moved, name), LOOSE, writes=True)
        for name in ("thinker", "icae", "lora")
    ),
    Reader("speeds", ("runs",), speeds, SILENT),
    Reader("facts", ("cache",), facts, SILENT),
    Reader("planned", (TOKENS, OTHER, SMALL, "cache"), planned, writes=True),
]
READERS = {reader.name: reader for reader in EVERY}
