"""KeyNorm: keys of unit length in every attention head, and the attention scale 1 in place of 1/sqrt(head_dim).

Importing this module teaches transformers' Auto classes the model types `llama_keynorm` and `gpt2_keynorm`. They are
types of their own because their weights fit the plain models, which would compute other logits from them.
"""

import copy
import sys
from collections.abc import Callable
from types import SimpleNamespace

import torch
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
)
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

BACKENDS: dict[str, str] = {}  # by the name of a KeyNorm attention function, the backend of transformers beneath it


def normalised(key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys [..., head_dim] at unit length, in their own dtype, and their norms [..., 1] in fp32."""
    norm = torch.linalg.vector_norm(key, dim=-1, keepdim=True, dtype=torch.float32)
    return (key / norm.clamp_min(1e-12)).to(key.dtype), norm


def attention_function(backend: str) -> Callable:
    """The KeyNorm attention on one backend, for `AttentionInterface.register`.

    A call leaves the mean norm of its keys, a scalar on their device, in `module.key_norm`; keys out of a cache were
    counted when they were new.
    """
    function = None if backend == "eager" else ALL_ATTENTION_FUNCTIONS[backend]

    def attend(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        **kwargs: object,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        key, norm = normalised(key)
        module.key_norm = norm.detach()[..., -query.shape[-2] :, :].mean()
        # The eager one is not in the interface: each modelling file has its own.
        call = function or sys.modules[type(module).__module__].eager_attention_forward
        if backend == "flash_attention_2":  # finds its kernel by the name in the config of the module
            module = copy.copy(module)
            module.config = SimpleNamespace(_attn_implementation=backend)
        return call(module, query, key, value, attention_mask, scaling=1.0, **kwargs)

    return attend


def register(backend: str) -> None:
    """Let models with KeyNorm use a backend: "eager", or one that `AttentionInterface` and its masks have by this name.

    Raises KeyError for one that they have not.
    """
    name = keynorm_name(backend)
    # Without a mask function under the same name, transformers builds no mask, and eager attention sees the future.
    AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[backend])
    AttentionInterface.register(name, attention_function(backend))
    BACKENDS[name] = backend


def keynorm_name(backend: str) -> str:
    """The name of the KeyNorm attention; transformers takes one with "flash" in it for a kernel to fetch."""
    return f"keynorm_{backend}".replace("flash_attention_", "fa")


for backend in ("sdpa", "eager", "flex_attention", "flash_attention_2"):
    register(backend)


class KeyNormConfig:
    """Part of a config: whichever backend is asked for, attention looks up the KeyNorm function on it.

    On one that is not registered it finds none, which transformers refuses.
    """

    @property
    def _attn_implementation(self) -> str | None:
        name = self._attn_implementation_internal
        return name if name is None or name in BACKENDS else keynorm_name(name)

    @_attn_implementation.setter
    def _attn_implementation(self, value: str | dict | None) -> None:
        PreTrainedConfig._attn_implementation.fset(self, value)


class KeyNormModel:
    """Part of a model: what transformers checks (is it installed, does it fit) is the backend beneath."""

    def _check_and_adjust_attn_implementation(self, attn_implementation: str | None, *args: object, **kwargs: object):
        backend = BACKENDS.get(attn_implementation, attn_implementation)
        backend = super()._check_and_adjust_attn_implementation(backend, *args, **kwargs)
        return self.get_correct_attn_implementation(keynorm_name(backend))  # refuses one that is not registered


class LlamaKeyNormConfig(KeyNormConfig, LlamaConfig):
    model_type = "llama_keynorm"


class GPT2KeyNormConfig(KeyNormConfig, GPT2Config):
    model_type = "gpt2_keynorm"


class LlamaKeyNormForCausalLM(KeyNormModel, LlamaForCausalLM):
    config_class = LlamaKeyNormConfig


class GPT2KeyNormLMHeadModel(KeyNormModel, GPT2LMHeadModel):
    config_class = GPT2KeyNormConfig


# By the family without it.
FAMILIES = {"llama": LlamaKeyNormForCausalLM, "gpt2": GPT2KeyNormLMHeadModel}

for model_class in FAMILIES.values():
    AutoConfig.register(model_class.config_class.model_type, model_class.config_class)
    AutoModelForCausalLM.register(model_class.config_class, model_class)


def forget(model: torch.nn.Module) -> None:
    """Leave the model as if no attention had run."""
    for module in model.modules():
        module.__dict__.pop("key_norm", None)


def mean_key_norm(model: torch.nn.Module) -> torch.Tensor | None:
    """Mean norm of the keys before normalisation in the last forward, over layers, heads and tokens.

    A scalar tensor on the model's device, so that nothing waits for it; None if no KeyNorm attention has run.
    """
    norms = [module.key_norm for module in model.modules() if hasattr(module, "key_norm")]
    return torch.stack(norms).mean() if norms else None
