"""Which rules run again after one key, file or setting has changed; nothing is run here, only planned."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import changed

from seedbed.evaluate.cmmlu.questions import DEMONSTRATION

PAGES = {"render_table": 1, "render_plots": 1, "render_study": 1, "render_milestones": 1}
MEASURE = {"evaluate": 10, **PAGES}
TRAIN = {"pretrain": 2, **MEASURE}
TOKENS = {"build_tokenizer": 1, "build_tokens": 1, **TRAIN}
CORPUS = {"build_corpus": 1, "find_contamination": 1, **TOKENS}

KEYS = [
    ("evaluations.forgetting.lengths", [2, 4], {"evaluate": 2, **PAGES}),
    ("evaluations.samples.prompts", ["今天"], {"evaluate": 2, **PAGES}),
    ("evaluations.questions.shots", [0, 1], {"evaluate": 2, **PAGES}),
    ("evaluations.questions.contamination", False, {"evaluate": 2, **PAGES}),
    ("evaluations.history.pieces", 9, {"evaluate": 2, **PAGES}),
    ("evaluations.history.corpus", "news", {}),
    ("evaluations.perplexity", {"kind": "perplexity", "stride": 8}, {"evaluate": 2, **PAGES}),
    ("studies.batch.plots", [{"kind": "loss", "smooth": 3}], {"render_plots": 1, "render_study": 1}),
    ("studies.batch.notes", "Other notes.", {"render_study": 1, "render_milestones": 1}),
    ("studies.batch.title", "Another title", {"render_study": 1, "render_milestones": 1}),
    ("studies.batch.vary", {"batch_tokens": [256, 512, 1024]}, {"pretrain": 1, "evaluate": 5, **PAGES}),
    ("runs.tiny.optimizer.lr", 0.02, TRAIN),
    ("runs.tiny.schedule", {"kind": "wsd"}, TRAIN),
    ("runs.tiny.validation.every", 16, TRAIN),
    ("runs.tiny.attention", "eager", TRAIN),
    ("runs.tiny.spikes", {"window": 8}, TRAIN),
    ("runs.tiny.recurrence", {"work_size": 8, "cache_size": 8}, TRAIN),
    ("runs.tiny.seed", 1, TRAIN),
    ("models.micro.num_hidden_layers", 3, TRAIN),
    ("tokenizers.small.vocab_size", 310, TOKENS),
    ("corpora.news.min_chars", 10, CORPUS),
    ("corpora.news.split.test", 0.2, CORPUS),
]

SETTINGS = (
    "--set-resources",
    *("pretrain:processes=1", "pretrain:gpu=2", "pretrain:nodes=2", "pretrain:micro_batch=2", "pretrain:zero_stage=2"),
    *("pretrain:checkpoint_seconds=1", "pretrain:checkpoint_steps=5", "pretrain:checkpoint_keep=3"),
    *("pretrain:offload=cpu", "pretrain:gradient_checkpointing=1", "pretrain:compile=1", "evaluate:batch_tokens=64"),
    *("--set-threads", "pretrain=1", "evaluate=1"),
    *("--cores", "1"),
)

FILES = [
    ("scripts/pretrain.py", {}),
    ("seedbed/train/engine.py", {}),
    ("scripts/build_tokens.py", {}),
    ("scripts/evaluate.py", MEASURE),
    ("seedbed/evaluate/samples/measure.py", {"evaluate": 2, **PAGES}),
    ("seedbed/objectives/lm/subject.py", MEASURE),
    ("seedbed/objectives/icae/subject.py", {}),
    ("seedbed/registry.py", {}),
    ("seedbed/evaluate/history/report.py", PAGES),
    ("seedbed/evaluate/history/page.html", {"render_study": 1}),
    ("seedbed/report/draw.py", {"render_plots": 1, "render_study": 1}),
    ("seedbed/report/templates/style.css", {"render_study": 1, "render_milestones": 1}),
    ("envs/seedbed.yaml", {}),
    ("seedbed/evaluate/cmmlu/contamination.py", {"find_contamination": 1, "evaluate": 2, **PAGES}),
    ("source/texts.jsonl", CORPUS),
]


@pytest.mark.parametrize(("path", "value", "expected"), KEYS, ids=[path for path, _, _ in KEYS])
def test_a_changed_key_reruns_what_reads_it(finished_project, path: str, value: object, expected: dict) -> None:
    assert finished_project.planned(config=changed(finished_project.config, path, value)) == expected


def test_how_it_is_computed_reruns_nothing(finished_project) -> None:
    assert finished_project.planned(*SETTINGS) == {}


@pytest.fixture
def edited(finished_project) -> Iterator:
    """Append a line to a file of the finished project for the length of a test."""
    before = {}

    def edit(name: str) -> None:
        path: Path = finished_project.folder / name
        before[path] = path.read_bytes()
        path.write_bytes(before[path] + (b'{"text": "x"}\n' if path.suffix == ".jsonl" else b"\n"))

    yield edit
    for path, content in before.items():
        path.write_bytes(content)


def test_edited_questions_are_asked_again(finished_project) -> None:
    folder = finished_project.folder / "questions"
    shutil.copytree(DEMONSTRATION, folder, ignore=shutil.ignore_patterns("*.md"))
    own = {"kind": "cmmlu", "source": {"files": "questions"}, "shots": [0]}
    config = changed(finished_project.config, "evaluations.own", own)
    target = "results/evaluations/tiny/own.json"
    assert finished_project.run("--cores", "2", target, config=config).returncode == 0
    assert finished_project.planned(target, config=config) == {}
    path = folder / "test" / "computer_science.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("0,", "7,", 1), encoding="utf-8")
    assert finished_project.planned(target, config=config) == {"find_contamination": 1, "evaluate": 1}


@pytest.mark.parametrize(("name", "expected"), FILES, ids=[name for name, _ in FILES])
def test_edited_code_reruns_cheap_stages_but_no_training(finished_project, edited, name: str, expected: dict) -> None:
    edited(name)
    assert finished_project.planned() == expected
