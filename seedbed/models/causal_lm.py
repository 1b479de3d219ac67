"""Causal language models of transformers: a new one, one from a directory, and a directory of one."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM, PreTrainedConfig
from transformers.pytorch_utils import Conv1D
from transformers.utils.logging import disable_progress_bar

from seedbed.data.formats import STATS
from seedbed.data.tokenizer import verify_tokenizer
from seedbed.errors import SeedbedError, shown
from seedbed.models import keynorm  # noqa: F401  (teaches transformers its model types)
from seedbed.models.attention import backend
from seedbed.models.facts import without_numbers
from seedbed.models.families import config_of
from seedbed.models.foreign import INDEX, WEIGHTS, check_directory, check_weights, reason

disable_progress_bar()  # of weights that are loaded; a stage shows its own
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
BATCH_TOKENS = {"cpu": 8192, "cuda": 65536}  # read at once: enough to keep the cores busy


def attention_of(config: PreTrainedConfig, name: str) -> str:
    """The attention that a run's `attention` means for a model of this config; auto is one that computes all of it."""
    capped = getattr(config, "attn_logit_softcapping", None)  # torch's own attention leaves it out
    own = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    if name == "auto" and (capped or not own._supports_sdpa):
        return "eager"
    if name == "auto" and not own._supports_attention_backend:  # it has attention of its own
        return "sdpa"
    return backend(name)


def new_model(fields: dict, vocabulary: int, eos: int, positions: int, attention: str) -> torch.nn.Module:
    """An untrained causal LM of a model's fields; `positions` is what it has room for where they do not say."""
    config = config_of(fields, vocabulary, eos, positions)
    chosen = attention_of(config, attention)
    try:
        return AutoModelForCausalLM.from_config(
            config, attn_implementation=chosen, dtype=torch.float32, trust_remote_code=False
        )
    except (ValueError, ImportError) as error:
        told = str(error).partition(". ")[0]
        raise SeedbedError(f"attention: {chosen} and {config.model_type} do not go together: {told}") from None


def load_model(
    folder: Path, attention: str | None = None, dtype: torch.dtype = torch.float32, least_vocabulary: int = 0
) -> torch.nn.Module:
    """The causal LM of a transformers directory, those with KeyNorm included.

    `attention` is that of a run; None is the default of the model. Raises SeedbedError when the directory needs code of
    its own, when weights are damaged, missing, of another shape or left over, and when its vocabulary is smaller than
    `least_vocabulary`.
    """
    check_directory(folder)
    check_weights(folder)
    with in_a_line(f"{folder}: config.json"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    chosen = attention and attention_of(config.get_text_config(), attention)
    with in_a_line(f"{folder}: no model can be loaded"), untold():
        model, found = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=chosen,
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    check_loaded(folder, model, found)
    if (own := model.config.get_text_config().vocab_size) < least_vocabulary:
        raise SeedbedError(f"{folder}: its vocabulary of {own} is smaller than the data's, {least_vocabulary}")
    return model


@contextmanager
def in_a_line(where: str) -> Iterator[None]:
    """Errors of configs and modelling files, which raise what they like, as SeedbedError."""
    try:
        yield
    except (SeedbedError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise SeedbedError(f"{where}: {reason(error)}") from error


@contextmanager
def untold() -> Iterator[None]:
    """Keep transformers from telling in a table what of a model was not loaded, which `check_loaded` does in a line."""
    logger = logging.getLogger("transformers.modeling_utils")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def check_loaded(folder: Path, model: torch.nn.Module, found: dict) -> None:
    """Raise SeedbedError unless every weight of a model came from its files and every tensor in them went into it."""
    where = folder / (WEIGHTS if (folder / WEIGHTS).exists() else INDEX)
    if missing := sorted(found["missing_keys"]):
        raise SeedbedError(f"{where}: lacks {listed(missing)}, which would be left random")
    for name, stored, expected in sorted(found["mismatched_keys"]):
        raise SeedbedError(f"{where}: {name}: found the shape {list(stored)}; expected {list(expected)}")
    # Masks that are computed now were once stored.
    computed = [without_numbers(name) for name, _ in model.named_buffers()]
    surplus = [
        name
        for name in sorted(found["unexpected_keys"])
        if not name.endswith(".masked_bias") and not any(one.endswith(without_numbers(name)) for one in computed)
    ]
    if surplus:
        raise SeedbedError(f"{where}: found {listed(surplus)}, for which {model.config.model_type} has no place")


def listed(names: list[str]) -> str:
    return shown(names[0]) + (f" and {len(names) - 1} more" if names[1:] else "")


def linear_layers(model: torch.nn.Module) -> list[str]:
    """Names of the linear layers of a causal LM but its output head, of which losses use the weights alone."""
    head, kinds = model.get_output_embeddings(), torch.nn.Linear | Conv1D
    return [name for name, part in model.named_modules() if isinstance(part, kinds) and part is not head]


def export(model: torch.nn.Module, tokenizer: Path, folder: Path, weights: dict | None = None) -> None:
    """Write a transformers directory: config, weights as safetensors (those of the model, unless given), tokenizer."""
    model.save_pretrained(folder, state_dict=weights)
    copy_tokenizer(tokenizer, folder)


def copy_tokenizer(tokenizer: Path, folder: Path) -> None:
    verify_tokenizer(tokenizer)
    for file in tokenizer.iterdir():
        if file.is_file() and file.name != STATS:
            (folder / file.name).write_bytes(file.read_bytes())
