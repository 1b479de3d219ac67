"""Causal language models of transformers: a new one, one from a directory, and a directory of one."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig
from transformers.utils.logging import disable_progress_bar

from seedbed.errors import SeedbedError
from seedbed.models import keynorm  # noqa: F401  (teaches transformers its model types)
from seedbed.models.architectures import architecture
from seedbed.models.attention import backend

disable_progress_bar()  # of weights that are loaded; a stage shows its own
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
BATCH_TOKENS = {"cpu": 8192, "cuda": 65536}  # read at once: enough to keep the cores busy


def learned_positions(config: PreTrainedConfig) -> int | None:
    """The longest input that a model of this config can be given; None where positions are computed (RoPE, ALiBi)."""
    return None if getattr(config, "rope_parameters", None) else getattr(config, "max_position_embeddings", None)


def new_model(fields: dict, vocabulary: int, eos: int, positions: int, attention: str) -> torch.nn.Module:
    """An untrained causal LM of a model's fields; `positions` is what it has room for where they do not say."""
    shape = architecture(fields)
    own = {shape.positions_field: positions} | shape.to_transformers()
    special = {"bos_token_id": None, "eos_token_id": eos, "pad_token_id": None}
    config, chosen = AutoConfig.for_model(shape.model_type, vocab_size=vocabulary, **special, **own), backend(attention)
    try:
        return AutoModelForCausalLM.from_config(config, attn_implementation=chosen, dtype=torch.float32)
    except (ValueError, ImportError) as error:
        reason = str(error).partition(". ")[0]
        raise SeedbedError(f"attention: {chosen} and {shape.model_type} do not go together: {reason}") from None


def load_model(
    folder: Path, attention: str | None = None, dtype: torch.dtype = torch.float32, least_vocabulary: int = 0
) -> torch.nn.Module:
    """The causal LM of a transformers directory, those with KeyNorm included; None is its default attention.

    Raises SeedbedError when its vocabulary is smaller than `least_vocabulary`.
    """
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation=attention)
    if (own := model.config.get_text_config().vocab_size) < least_vocabulary:
        raise SeedbedError(f"{folder}: its vocabulary of {own} is smaller than the data's, {least_vocabulary}")
    return model


def export(model: torch.nn.Module, tokenizer: Path, folder: Path, weights: dict | None = None) -> None:
    """Write a transformers directory: config, weights as safetensors (those of the model, unless given), tokenizer."""
    model.save_pretrained(folder, state_dict=weights)
    copy_tokenizer(tokenizer, folder)


def copy_tokenizer(tokenizer: Path, folder: Path) -> None:
    for file in tokenizer.iterdir():
        if file.is_file() and file.name != "stats.json":
            (folder / file.name).write_bytes(file.read_bytes())
