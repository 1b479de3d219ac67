"""A copy of the project with a configuration that runs in seconds."""

import re
import shutil
import subprocess
import sys
from copy import deepcopy
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import yaml
from forked import start_snakemake
from support import ROOT

from seedbed.models import lookup

PARTS = ("Snakefile", "workflow", "scripts", "seedbed", "profiles", "envs", "config.yaml")

CONFIG = {
    "results": "results",
    "corpora": {
        "news": {"source": {"files": "source/texts.jsonl"}, "split": {"valid": 0.1, "test": 0.1}, "shards": 2},
    },
    "tokenizers": {"small": {"corpus": "news", "vocab_size": 300}},
    "models": {
        "micro": {
            "family": "llama",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        }
    },
    "runs": {
        "tiny": {
            "corpus": "news",
            "tokenizer": "small",
            "model": "micro",
            "seq_len": 32,
            "budget": {"tokens": 8192},
            "batch_tokens": 256,
            "optimizer": {"lr": 0.01},
            "validation": {"every": 8, "tokens": 1024},
            "log_every": 4,
        }
    },
    "evaluations": {
        "perplexity": {"kind": "perplexity"},
        "forgetting": {"kind": "forgetting", "lengths": [2, 4, 8, 16], "repeats": 6},
        "history": {"kind": "history", "pieces": 8},
        "questions": {"kind": "cmmlu", "source": {"demonstration": True}, "shots": [0]},
        "samples": {"kind": "samples", "prompts": ["今天", "中国"], "max_new_tokens": 8},
    },
    "studies": {
        "batch": {
            "date": "2026-01-02",
            "title": "批量 <b>Batch</b>",
            "notes": "One.\n\nTwo & three.",
            "base": "tiny",
            "vary": {"batch_tokens": [256, 512]},
            "evaluate": ["perplexity", "forgetting", "history", "questions", "samples"],
            "plots": [
                {"kind": "loss"},
                {"kind": "loss", "x": "seconds"},
                {"kind": "perplexity", "evaluation": "perplexity"},
                {"kind": "forgetting", "evaluation": "forgetting"},
                {"kind": "receptive-field", "evaluation": "forgetting"},
                {"kind": "history", "evaluation": "history"},
                {"kind": "cmmlu", "evaluation": "questions"},
            ],
        }
    },
}


@dataclass
class Project:
    """A directory to run the workflow in."""

    folder: Path
    config: dict

    def command(self, *options: str) -> list[str]:
        """Snakemake as users start it."""
        return [sys.executable, "-m", "snakemake", "--configfile", "test.yaml", *options]

    def write(self, config: dict | None = None) -> None:
        text = yaml.safe_dump(config or self.config, allow_unicode=True, sort_keys=False)
        (self.folder / "test.yaml").write_text(text, encoding="utf-8")

    def run(self, *options: str, config: dict | None = None) -> subprocess.CompletedProcess:
        """Run snakemake with a configuration; output and errors come as one text."""
        self.write(config)
        process = self.start(self.folder / "output.log", *options)
        process.join()
        output = (self.folder / "output.log").read_text(encoding="utf-8")
        return subprocess.CompletedProcess(options, process.exitcode, output)

    def start(self, log: Path, *options: str) -> BaseProcess:
        """Run snakemake with the configuration last written, without waiting for it."""
        return start_snakemake(self.command(*options)[3:], self.folder, log)

    def planned(self, *options: str, config: dict | None = None) -> dict[str, int]:
        """How many jobs of each rule a dry run names."""
        done = self.run("-n", *options, config=config)
        assert done.returncode == 0, done.stdout
        if "Nothing to be done" in done.stdout:
            return {}
        table = re.search(r"^job +count\n[- ]+\n((?:\w+ +\d+\n)+)", done.stdout, re.MULTILINE)[1]
        jobs = {name: int(count) for name, count in (line.split() for line in table.splitlines())}
        return {name: count for name, count in jobs.items() if name not in ("all", "total")}


def make_project(folder: Path, text_file: Path) -> Project:
    folder.mkdir()
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / part)
    (folder / "source").mkdir()
    shutil.copy2(text_file, folder / "source")
    project = Project(folder, deepcopy(CONFIG))
    project.write()
    # What any plan finds first, and a process of its own takes seconds for.
    (folder / "results").mkdir()
    lookup.find([{"key_norm": False} | model for model in CONFIG["models"].values()], folder / "results")
    return project
