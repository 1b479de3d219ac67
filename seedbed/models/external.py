"""External models: from the hub or a directory to a transformers directory of our own."""

import os
import shutil
import sys
from pathlib import Path

from seedbed.errors import SeedbedError
from seedbed.files import replacing

# Configs, weights and tokenizers; no pickles, and no code.
WANTED = ["*.json", "*.safetensors", "*.model", "*.txt"]


def adopt_model(spec: dict, target: Path) -> None:
    """Bring the files of a model to the directory `target`; those of a directory are linked where that is possible.

    `spec` is a model of the configuration (`from`, `revision`). Raises SeedbedError when it cannot be had, has no
    safetensors, or is no causal language model.
    """
    source = spec["from"]
    with replacing(target) as folder:
        if Path(source).is_dir():
            link_files(Path(source), folder)
        else:
            download_files(source, spec["revision"], folder)
        check_model(source, folder)


def link_files(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    for path in sorted({path for pattern in WANTED for path in source.glob(pattern)}):
        try:
            os.link(path.resolve(), folder / path.name)
        except OSError:  # another file system
            shutil.copyfile(path, folder / path.name)


def download_files(source: str, revision: str | None, folder: Path) -> None:
    from huggingface_hub import snapshot_download

    print(f"fetching {source} from the hub", file=sys.stderr, flush=True)
    try:
        snapshot_download(source, revision=revision, allow_patterns=WANTED, local_dir=folder)
    except Exception as error:  # the hub client raises its own, urllib's and httpx's
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SeedbedError(f"model {source}: no such directory, and the hub says: {reason}") from None
    shutil.rmtree(folder / ".cache", ignore_errors=True)


def check_model(source: str, folder: Path) -> None:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoTokenizer

    from seedbed.models import keynorm  # noqa: F401  (teaches transformers its model types)

    if not list(folder.glob("*.safetensors")):
        raise SeedbedError(f"model {source}: has no weights as *.safetensors; pickled ones are not read")
    try:
        config = AutoConfig.from_pretrained(folder)
        AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # transformers and the tokenizers each raise their own
        raise SeedbedError(f"model {source}: {(str(error).strip() or type(error).__name__).splitlines()[0]}") from None
    if config.is_encoder_decoder:
        raise SeedbedError(
            f"model {source}: found {config.model_type}, an encoder-decoder; expected a causal language model"
        )
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise SeedbedError(f"model {source}: found the type {config.model_type!r}; expected a causal language model")
