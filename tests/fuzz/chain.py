"""All that the stages leave of one small configuration: real files of every kind, of models that were never trained."""

import json
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import torch
import torch.distributed as dist
from support import saved_model, sentences

from seedbed.config.load import check
from seedbed.data.contexts import build_contexts
from seedbed.data.corpus import build_corpus
from seedbed.data.sources import documents
from seedbed.data.tokenizer import build_tokenizer
from seedbed.data.tokens import build_tokens
from seedbed.evaluate.cmmlu.contamination import Found, find
from seedbed.evaluate.job import evaluate
from seedbed.files import write_text
from seedbed.models.external import adopt_model
from seedbed.plan import Plan, specs
from seedbed.records import write_record
from seedbed.report.draw import write_plots
from seedbed.report.milestones import milestones_page
from seedbed.report.results import StudyResults
from seedbed.report.study import study_page
from seedbed.report.table import Table, study_rows
from seedbed.runs import METRICS, MODEL
from seedbed.train.checkpoints import Saver
from seedbed.train.execution import Batching
from seedbed.train.job import Job
from seedbed.train.launch import publish
from seedbed.train.result import Result, save_model, save_trunk
from seedbed.train.schedules import plateau_start
from seedbed.train.spikes import watch_start
from seedbed.train.state import parameter_names
from seedbed.train.trainer import new_objective

STEPS, TRUNK = 6, 3
SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
TASK = "def answers(x, lengths):\n    return x[:, ::-1]\n"


def configuration(root: Path) -> dict:
    """A run of each kind and with each way to begin, every kind of evaluation and plot."""
    tokens = {"tokenizer": "small", "seq_len": 16, "batch_tokens": 64, "precision": "fp32", "budget": {"steps": STEPS}}
    base = tokens | {"corpus": "news", "model": "tiny", "schedule": {"kind": "constant"}}
    icae = {"objective": "icae", "contexts": "news", "continuation": 8, "leave_tokens_for_lm": 2, "memory_tokens": 4}
    icae |= tokens | {"rate": 4, "model": "tiny"}
    thinker = {"objective": "thinker", "task": {"python": f"{root}/task.py:answers", "symbols": 8}, "length": 6}
    thinker |= {"n_latent": 3, "n_step": 2, "batch": 4, "budget": {"steps": STEPS}}
    thinker |= {"model": {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}}
    lora = {"r": 2, "alpha": 4, "targets": "all-linear"}
    study = {"date": date(2026, 1, 1), "title": "t"}
    on_text = {"perplexity": "perplexity", "forgetting": "forgetting", "history": "history", "cmmlu": "questions"}
    plots = [{"kind": kind, "evaluation": name} for kind, name in on_text.items()]
    plots.append({"kind": "receptive-field", "evaluation": "forgetting"})
    of_tasks = [{"kind": f"task-{what}", "evaluation": "answers"} for what in ("grid", "length", "steps", "training")]
    of_memory = [{"kind": kind, "evaluation": "memory"} for kind in ("reconstruction", "compression")]
    return {
        "results": str(root),
        "corpora": {"news": {"source": {"files": str(root / "texts.jsonl")}, "split": {"valid": 0.1, "test": 0.1}}},
        "tokenizers": {"small": {"corpus": "news", "vocab_size": 300}},
        "contexts": {"news": {"corpus": "news", "min_chars": 40, "max_chars": 200, "held_out": 10}},
        "models": {"tiny": {"family": "llama", **SIZES}, "other": {"from": str(root / "sources" / "other")}},
        "runs": {
            "base": base,
            "tuned": base | {"init": {"run": "base"}, "seed": 1},
            "branched": base | {"init": {"run": "base", "step": TRUNK, "optimizer": True}, "seed": 1},
            "icae": icae | {"lora": None, "decoder": "trained"},
            "lora": icae | {"lora": lora, "decoder": "trained", "init": {"run": "base"}},
            "thinker": thinker,
            "thought": thinker | {"init": {"run": "thinker"}},
        },
        "evaluations": {
            "perplexity": {"kind": "perplexity", "corpus": "news", "max_tokens": 200},
            "forgetting": {"kind": "forgetting", "corpus": "news", "lengths": [1, 4], "repeats": 6},
            "history": {"kind": "history", "corpus": "news", "length": 8, "history": 8, "pieces": 6},
            "questions": {"kind": "cmmlu", "source": {"demonstration": True}, "shots": [0]},
            "samples": {"kind": "samples", "prompts": ["今天"], "max_new_tokens": 4},
            "memory": {"kind": "reconstruction", "samples": 6, "generated": 1},
            "answers": {"kind": "task-accuracy", "samples": 8, "timed": 0},
        },
        "studies": {
            "texts": study
            | {"runs": ["base"], "models": ["other"], "plots": [{"kind": "loss"}, *plots]}
            | {"evaluate": [*on_text.values(), "samples"]},
            "tuned": study | {"runs": ["tuned"], "evaluate": ["perplexity"], "plots": [{"kind": "loss"}, plots[0]]},
            "memory": study | {"runs": ["icae", "lora"], "evaluate": ["memory"], "plots": of_memory},
            "tasks": study | {"runs": ["thinker"], "evaluate": ["answers"], "plots": of_tasks},
        },
    }


@dataclass(frozen=True)
class Chain:
    """The results directory of that configuration, and how each stage is asked for what is in it."""

    root: Path

    @cached_property
    def plan(self) -> Plan:
        return Plan(check(configuration(self.root)))

    def job(self, name: str, report: Any = print) -> Job:
        run, trunk = self.plan.runs[name], self.plan.trunks.get(name)
        inputs = {key: self.root / path for key, path in run.inputs().items()}
        inputs |= {key: self.root / path for key, path in run.files().items()}
        if run.init:
            inputs["init"] = self.trunk if getattr(run.init, "step", None) else self.run(run.init.run) / MODEL
        if trunk:
            inputs["trunk"] = self.trunk
        return Job(name, run.spec(), self.run(name), inputs, report=report)

    def run(self, name: str) -> Path:
        return self.root / "runs" / name

    @property
    def trunk_job(self) -> Job:
        trunk = self.plan.trunks["base"]
        inputs = {key: self.root / path for key, path in self.plan.runs["base"].inputs().items()}
        return Job(
            "trunk",
            specs.trunk_spec(self.plan, trunk.name),
            self.root / "trunks" / trunk.name.partition("/")[0],
            inputs,
            trunk.step,
        )

    @property
    def trunk(self) -> Path:
        return self.root / "trunks" / self.plan.trunks["base"].name

    def study(self, name: str) -> StudyResults:
        return StudyResults(specs.study_spec(self.plan, name), self.root)

    def evaluation_inputs(self, name: str, subject: str) -> list[tuple[str, Path]]:
        wanted = self.plan.config.evaluations[name].inputs(name, subject, self.plan)
        every = {key: paths if isinstance(paths, list) else [paths] for key, paths in wanted.items()}
        return [(key, self.root / path) for key, paths in every.items() for path in paths]

    def place(self, subject: str) -> tuple[Path | None, Path | None]:
        """The run or the external model of that name, as an evaluation is given one of them."""
        return (self.run(subject), None) if subject in self.plan.runs else (None, self.root / "models" / subject)


def build(root: Path) -> Chain:
    """Run every stage; training is left out, the rest writes what it always does."""
    chain = Chain(root)
    texts = [sentences(number, 60 + number % 60) for number in range(150)]
    write_text(root / "texts.jsonl", "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts))
    write_text(root / "task.py", TASK)
    plan = chain.plan
    corpus, tokenizer = root / "corpora" / "news", root / "tokenizers" / "small"
    spec = specs.corpus_spec(plan, "news")
    build_corpus(documents(spec), spec, corpus)
    build_tokenizer(specs.tokenizer_spec(plan, "small"), corpus, tokenizer)
    build_tokens(corpus, tokenizer, root / "tokens" / "news" / "small")
    build_contexts(specs.contexts_spec(plan, "news"), corpus, tokenizer, root / "contexts" / "news" / "small")
    saved_model(tokenizer, root / "sources" / "other", **SIZES)
    adopt_model(specs.model_spec(plan, "other"), root / "models" / "other")
    build_tokens(corpus, root / "models" / "other", root / "tokens" / "news" / "other")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        leave(chain.trunk_job)
        for name in plan.runs:
            leave(chain.job(name))
    finally:
        dist.destroy_process_group()
    found, _ = find(specs.contamination_spec(plan, "questions")["source"], corpus)
    write_record(root / "contamination" / "questions" / "news.json", Found, found)
    for name in plan.studies:
        report(chain, name)
    return chain


def leave(job: Job) -> None:
    """What a job leaves that has just been trained: checkpoints, its result, and what is published of it."""
    torch.manual_seed(len(job.name))
    objective, steps = new_objective(job), STEPS
    with torch.no_grad():
        weights = {name: weight.detach() for weight, name in parameter_names(objective.loss_module).items()}
        for weight in weights.values():
            weight += 0.1 * torch.randn(weight.shape)
    lines = "".join(json.dumps(line) + "\n" for line in lines_of(job))
    write_text(job.store / METRICS, lines)
    write_text(job.store / "tensorboard" / "events", "none")
    saver = Saver(job.store)
    for step in (1, job.until or STEPS):
        state = {f"{name}/exp_avg": weight * step for name, weight in weights.items()}
        files = {"weights": weights, "optimizer": state, "objective": objective.state_dict()}
        saver.write(step, files, facts_at(job, step, steps), lines, set())
    saver.close()
    engine = SimpleNamespace(weights=lambda _: weights)
    sizes = objective.sizes()
    result = Result(job.until or steps, 0, 2.0, [], 0.5, "fp32", Batching(STEPS, job.unit.samples, 1, 1), sizes)
    (save_trunk if job.until else save_model)(job, result, objective, engine)
    publish(job)


def lines_of(job: Job) -> list[dict]:
    unit = job.unit
    every = {"lr": 0.1, "grad_norm": 1.0, unit.speed: 10.0}
    lines = [
        {"step": step, unit.name: step * unit.per_step, "seconds": step / 2, "loss": 5 - step / 8} | every
        for step in range(1, STEPS + 1)
    ]
    lines[-1] |= {"valid_loss": 4.5, "valid_accuracy": 0.5, "valid_exact": 0.25}
    return lines


def facts_at(job: Job, step: int, steps: int) -> dict:
    interval = {"step": step, "seconds": 1.0, "losses": [[5.0]], "grad_norm": 1.0}
    facts = {"precision": "fp32", "begun": 0, "seconds": 1.0, "watch": watch_start(), "plateau": plateau_start()}
    return facts | {"identity": job.identity_at(step, steps), "interval": interval}


def report(chain: Chain, name: str) -> None:
    """Measure what a study compares, and write its table, plots and pages."""
    study, folder = chain.study(name), chain.root / "studies" / name
    for evaluation in study.spec["evaluations"]:
        spec = specs.evaluation_spec(chain.plan, evaluation)
        for subject in study.subjects:
            out = chain.root / "evaluations" / subject / f"{evaluation}.json"
            evaluate(evaluation, spec, *chain.place(subject), chain.evaluation_inputs(evaluation, subject), out)
    rows = study_rows(study)
    write_text(folder / "table.tsv", pd.DataFrame(rows).to_csv(sep="\t", index=False))
    write_record(folder / "table.json", Table, {"study": name, "rows": rows})
    write_plots(study, folder / "plots")
    write_text(folder / "study.html", study_page(study, folder / "plots"))
    write_text(folder / "milestones.html", milestones_page([(study.spec, rows)]))
