"""Causal language models of transformers: a new one, one from a directory, and a directory of one."""

from pathlib import Path

import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM, PreTrainedConfig
from transformers.pytorch_utils import Conv1D
from transformers.utils.logging import disable_progress_bar

from seedbed.data.formats import STATS
from seedbed.data.tokenizer import verify_tokenizer
from seedbed.errors import SeedbedError
from seedbed.models import keynorm  # noqa: F401  (teaches transformers its model types)
from seedbed.models.attention import backend
from seedbed.models.families import config_of

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
        return AutoModelForCausalLM.from_config(config, attn_implementation=chosen, dtype=torch.float32)
    except (ValueError, ImportError) as error:
        reason = str(error).partition(". ")[0]
        raise SeedbedError(f"attention: {chosen} and {config.model_type} do not go together: {reason}") from None


def load_model(
    folder: Path, attention: str | None = None, dtype: torch.dtype = torch.float32, least_vocabulary: int = 0
) -> torch.nn.Module:
    """The causal LM of a transformers directory, those with KeyNorm included.

    `attention` is that of a run; None is the default of the model. Raises SeedbedError when its vocabulary is smaller
    than `least_vocabulary`.
    """
    chosen = attention and attention_of(AutoConfig.from_pretrained(folder).get_text_config(), attention)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation=chosen)
    if (own := model.config.get_text_config().vocab_size) < least_vocabulary:
        raise SeedbedError(f"{folder}: its vocabulary of {own} is smaller than the data's, {least_vocabulary}")
    return model


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
