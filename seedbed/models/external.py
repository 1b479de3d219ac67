"""External models: from the hub or a directory to a transformers directory of our own."""

import shutil
import sys
from pathlib import Path

from seedbed.checksums import described_files
from seedbed.errors import SeedbedError
from seedbed.files import replacing
from seedbed.models.foreign import (
    WANTED,
    check_directory,
    check_regular,
    check_weights,
    is_directory,
    panics_raised,
    reason,
    take,
)
from seedbed.records import write_record
from seedbed.runs import ADOPTED, Adopted


def adopt_model(spec: dict, target: Path) -> None:
    """Bring the files of a model to the directory `target`; those of a directory are linked where that is possible.

    `spec` is a model of the configuration (`from`, `revision`). Raises SeedbedError when it cannot be had, has no
    safetensors, or is no causal language model.
    """
    source = spec["from"]
    with replacing(target, r".*\.(json|jinja|model|safetensors|txt)") as folder:
        collect(f"model {source}", source, spec["revision"], WANTED, folder)
        check_model(source, folder)
        adopted = {"source": source, "revision": spec["revision"], "files": described_files(folder)}
        write_record(folder / ADOPTED, Adopted, adopted)


def collect(called: str, source: str, revision: str | None, patterns: list[str], folder: Path) -> None:
    """Bring the files that have one of these names to a new directory, from a directory or else the hub.

    `called` is how messages begin. Raises SeedbedError where there are none to be had, or where they are no files.
    """
    if is_directory(source):
        take(Path(source), folder, patterns, called)
    else:
        download_files(called, source, revision, patterns, folder)


def download_files(called: str, source: str, revision: str | None, patterns: list[str], folder: Path) -> None:
    """Fetch the files of a repository of the hub that have one of these names, none of its directories."""
    from huggingface_hub import snapshot_download

    print(f"fetching {source} from the hub", file=sys.stderr, flush=True)
    try:
        snapshot_download(source, revision=revision, allow_patterns=patterns, ignore_patterns=["*/*"], local_dir=folder)
    except Exception as error:  # the hub client raises its own, urllib's and httpx's
        told = reason(error, folder, source)
        raise SeedbedError(f"{called}: no such directory, and the hub says: {told}") from None
    shutil.rmtree(folder / ".cache", ignore_errors=True)


def check_model(source: str, folder: Path) -> None:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    from seedbed.models import keynorm  # noqa: F401  (teaches transformers its model types)

    called = f"model {source}"
    if not list(folder.glob("*.safetensors")):
        raise SeedbedError(f"{called}: has no weights as *.safetensors; pickled ones are not read")
    check_directory(folder, called)
    check_weights(folder, called)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # each config class raises its own
        raise SeedbedError(f"{called}: config.json: {reason(error, folder, source)}") from None
    load_tokenizer(called, source, folder)
    if config.is_encoder_decoder:
        raise SeedbedError(f"{called}: found {config.model_type}, an encoder-decoder; expected a causal language model")
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise SeedbedError(f"{called}: found the type {config.model_type!r}; expected a causal language model")


def load_tokenizer(called: str, source: str, folder: Path):
    """The tokenizer of a directory that was checked and came from `source`."""
    from transformers import AutoTokenizer

    check_regular(folder, called)
    try:
        with panics_raised():
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # transformers and the converters raise their own
        raise SeedbedError(f"{called}: {files_at_fault(folder)}{reason(error, folder, source)}") from None


def files_at_fault(folder: Path) -> str:
    """How a message names what a tokenizer could not be made of, as far as it can be told."""
    from tokenizers import Tokenizer

    try:
        if (folder / "tokenizer.json").exists():
            with panics_raised():
                Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception:
        return "tokenizer.json: "
    others = [name for name in ("config.json", "tokenizer_config.json") if (folder / name).exists()]
    return f"{' or '.join(others)}: " if others else ""
