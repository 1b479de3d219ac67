"""Texts, a tokenizer, tokens and a model small enough for tests, all made here."""

import json
import os
from pathlib import Path

# Tests of DeepSpeed run on the CPU everywhere.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("DS_ACCELERATOR", "cpu")
# The tensors of tests are too small for threads to share.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests run side by side: a thread that spins while it waits would keep another from its core.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
from support import corpus_spec, saved_model, sentences

from seedbed.data.contexts import build_contexts
from seedbed.data.corpus import build_corpus
from seedbed.data.sources import documents
from seedbed.data.tokenizer import build_tokenizer
from seedbed.data.tokens import build_tokens

# Test files that look at one project, which takes a while to make: one process runs all of them. This goes by files,
# because xdist's own groups are lost on pytest 9.2, which has no `_nodeid` to write them to.
ONE_PROJECT = {
    "test_chain.py": "finished_project",
    "test_models.py": "finished_project",
    "test_reruns.py": "finished_project",
    "test_targets.py": "finished_project",
    "test_terminal.py": "finished_project",
    "test_icae.py": "compressing",
    "test_thinker.py": "thinking",
    "test_trunks.py": "wsd",
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    from xdist.scheduler import LoadScopeScheduling

    class ByProject(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return ONE_PROJECT.get(Path(file).name, nodeid) if "/workflow/" in file else nodeid

    return ByProject(config, log)


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return [sentences(seed, 80 + seed % 60) for seed in range(300)]


@pytest.fixture(scope="session")
def text_file(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def corpus(text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built corpus of about 250 training documents."""
    folder = tmp_path_factory.mktemp("corpus") / "news"
    spec = corpus_spec(source={"files": str(text_file)})
    build_corpus(documents(spec), spec, folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer") / "small"
    build_tokenizer({"vocab_size": 300, "max_bytes": 10**6}, corpus, folder)
    return folder


@pytest.fixture(scope="session")
def tokens(corpus: Path, tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens") / "small"
    build_tokens(corpus, tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def contexts(corpus: Path, tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents of hundreds of tokens, 20 of them held out."""
    folder = tmp_path_factory.mktemp("contexts") / "news"
    build_contexts({"min_chars": 100, "max_chars": 400, "held_out": 20}, corpus, tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def model_folder(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained Llama with the tokenizer, as a run exports it."""
    return saved_model(tokenizer, tmp_path_factory.mktemp("model") / "model")
