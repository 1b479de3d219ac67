"""KeyNorm against attention written out by hand, and the way of its models through save and load."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from seedbed.models.keynorm import mean_key_norm, register

HEADS = 4
SHAPES = {
    "llama_keynorm": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 2,
    },
    "gpt2_keynorm": {"n_embd": 32, "n_layer": 2, "n_head": HEADS, "n_positions": 64},
}


def new_model(family: str, attention: str = "sdpa") -> PreTrainedModel:
    """A model whose weights are large enough for attention to prefer some keys by far."""
    torch.manual_seed(0)
    special = {"bos_token_id": None, "eos_token_id": None}
    config = AutoConfig.for_model(family, vocab_size=50, initializer_range=0.3, **special, **SHAPES[family])
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=torch.float32).eval()


@pytest.fixture(params=SHAPES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(family: str) -> PreTrainedModel:
    return new_model(family)


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(50, (2, 13), generator=torch.Generator().manual_seed(1))


def attentions(model: PreTrainedModel) -> list[torch.nn.Module]:
    return [layer.self_attn if hasattr(layer, "self_attn") else layer.attn for layer in blocks(model)]


def blocks(model: PreTrainedModel) -> torch.nn.ModuleList:
    return model.model.layers if model.config.model_type == "llama_keynorm" else model.transformer.h


def key_weights(model: PreTrainedModel) -> list[torch.Tensor]:
    """The weights that make the keys of each layer, keys along the last dimension."""
    if model.config.model_type == "llama_keynorm":
        return [attention.k_proj.weight.data.T for attention in attentions(model)]
    return [attention.c_attn.weight.data[:, 32:64] for attention in attentions(model)]


def projections(attention: torch.nn.Module, hidden: torch.Tensor) -> list[torch.Tensor]:
    """Queries, keys and values [batch, heads, length, head_dim] before any rotation."""
    if hasattr(attention, "k_proj"):
        made = [attention.q_proj(hidden), attention.k_proj(hidden), attention.v_proj(hidden)]
    else:
        made = attention.c_attn(hidden).split(32, dim=-1)
    return [states.unflatten(-1, (-1, 32 // HEADS)).transpose(1, 2) for states in made]


def turned(states: torch.Tensor) -> torch.Tensor:
    """RoPE as a product of complex numbers; Llama pairs dimension i with i + head_dim / 2."""
    half = states.shape[-1] // 2
    angles = torch.outer(torch.arange(states.shape[-2]), 10000.0 ** (-torch.arange(half) / half))
    pairs = torch.complex(states[..., :half], states[..., half:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([pairs.real, pairs.imag], dim=-1)


def attention_by_hand(attention: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    query, key, value = projections(attention, hidden)
    if hasattr(attention, "k_proj"):
        query, key = turned(query), turned(key)
        key, value = (states.repeat_interleave(HEADS // 2, dim=1) for states in (key, value))
    key = key / key.square().sum(-1, keepdim=True).sqrt()
    scores = query @ key.transpose(-1, -2)
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    mixed = (scores.masked_fill(future, -math.inf).softmax(-1) @ value).transpose(1, 2).flatten(-2)
    return attention.o_proj(mixed) if hasattr(attention, "k_proj") else attention.c_proj(mixed)


@pytest.mark.parametrize("backend", ["sdpa", "eager"])
def test_attention_is_softmax_of_queries_times_unit_keys(family: str, backend: str, ids: torch.Tensor) -> None:
    model = new_model(family, backend)
    seen = {}
    for attention in attentions(model):
        attention.register_forward_hook(
            lambda module, args, kwargs, out: seen.update({module: (*args, *kwargs.values(), out[0])}), with_kwargs=True
        )
    model(ids)
    for attention in attentions(model):
        hidden, *_, found = seen[attention]
        torch.testing.assert_close(found, attention_by_hand(attention, hidden), atol=1e-5, rtol=1e-4)


def test_the_length_of_keys_does_not_matter(model: PreTrainedModel, ids: torch.Tensor) -> None:
    before = model(ids).logits
    for weight, factor in zip(key_weights(model), (40, 0.01), strict=True):
        weight *= factor
    torch.testing.assert_close(model(ids).logits, before, atol=1e-4, rtol=1e-4)


def test_keys_of_length_zero_give_numbers(model: PreTrainedModel, ids: torch.Tensor) -> None:
    for weight in key_weights(model):
        weight.zero_()
    model(ids).logits.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


ROUND_TRIPS = [(family, backend) for family in SHAPES for backend in ("sdpa", "eager", None)]
ROUND_TRIPS += [("llama_keynorm", "flex_attention")]  # which transformers' GPT-2 does not have


@pytest.mark.parametrize("family,backend", ROUND_TRIPS)
@torch.no_grad()
def test_a_loaded_model_has_the_logits_of_the_saved_one(
    family: str, backend: str | None, ids: torch.Tensor, tmp_path: Path
) -> None:
    model = new_model(family)
    model.save_pretrained(tmp_path)
    asked = {} if backend is None else {"attn_implementation": backend}
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, **asked)
    assert type(loaded) is type(model)
    assert loaded.config._attn_implementation == f"keynorm_{backend or 'sdpa'}"
    with torch.compiler.set_stance("force_eager"):  # compiling takes a minute
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits, atol=1e-4, rtol=1e-4)


def test_another_backend_chosen_later_is_normalised_too(model: PreTrainedModel, ids: torch.Tensor) -> None:
    before = model(ids).logits
    model.set_attn_implementation("eager")
    after = model(ids, output_attentions=True)
    assert after.attentions[0].shape == (2, HEADS, 13, 13)  # which only the eager backend returns
    torch.testing.assert_close(after.logits, before, atol=1e-4, rtol=1e-4)


def test_a_backend_written_into_the_config_is_normalised_too(model: PreTrainedModel, ids: torch.Tensor) -> None:
    before = model(ids).logits
    model.config._attn_implementation = "eager"
    torch.testing.assert_close(model(ids).logits, before, atol=1e-4, rtol=1e-4)


def test_flash_attention_gets_unit_keys_and_its_own_name(
    family: str, ids: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what stands for the package flash-attn, on [batch, length, heads, head_dim]."""

    def flash(query, key, value, mask, attn_implementation, softmax_scale, is_causal, **_):
        assert (attn_implementation, softmax_scale, is_causal, mask) == ("flash_attention_2", 1.0, True, None)
        query, key, value = (states.transpose(1, 2) for states in (query, key, value))
        attend = torch.nn.functional.scaled_dot_product_attention
        return attend(query, key, value, scale=1.0, is_causal=True, enable_gqa=True).transpose(1, 2)

    loaded = []
    monkeypatch.setattr("transformers.integrations.flash_attention._flash_attention_forward", flash)
    monkeypatch.setattr("transformers.modeling_utils.lazy_import_flash_attention", loaded.append)
    monkeypatch.setattr(PreTrainedModel, "_flash_attn_can_dispatch", lambda *_, **__: True)
    model = new_model(family, "flash_attention_2")
    assert set(loaded) == {"flash_attention_2"}
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(ids).logits, new_model(family)(ids).logits)


def test_a_backend_of_our_own(model: PreTrainedModel, ids: torch.Tensor) -> None:
    def attend(module, query, key, value, attention_mask, scaling, **options):
        torch.testing.assert_close(key.norm(dim=-1), torch.ones(key.shape[:-1]))
        calls.append(scaling)
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)

    before, calls = model(ids).logits, []
    ours = f"{model.config.model_type}_ours"
    AttentionInterface.register(ours, attend)
    AttentionMaskInterface.register(ours, sdpa_mask)
    for ask in (model.set_attn_implementation, lambda name: new_model(model.config.model_type, name)):
        with pytest.raises(ValueError, match=f"keynorm_{ours}"):
            ask(ours)
    register(ours)
    model.set_attn_implementation(ours)
    assert torch.equal(model(ids).logits, before) and calls == [1.0, 1.0]


@pytest.mark.parametrize("backend", ["flash_attention_2", "flash_attention_3"])
def test_a_backend_that_is_not_there_is_refused(model: PreTrainedModel, backend: str, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    with pytest.raises((ImportError, ValueError), match="flash_attn|doesn't seem to be installed|not supported"):
        AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation=backend)


def test_transformers_alone_refuses_the_model(tmp_path: Path) -> None:
    for family in SHAPES:
        new_model(family).save_pretrained(tmp_path / family)
    code = (
        "import sys; from transformers import AutoModelForCausalLM\n"
        "for folder in sys.argv[1:]:\n"
        "    try: AutoModelForCausalLM.from_pretrained(folder)\n"
        "    except ValueError as error: print(error)\n"
    )
    folders = [str(tmp_path / family) for family in SHAPES]
    shown = subprocess.run([sys.executable, "-c", code, *folders], capture_output=True, text=True, check=True).stdout
    assert all(f"model type `{family}` but Transformers does not recognize" in shown for family in SHAPES)


def test_mean_key_norm_is_of_the_keys_before_normalisation(model: PreTrainedModel, ids: torch.Tensor) -> None:
    norms = []
    for attention in attentions(model):
        attention.register_forward_pre_hook(
            lambda module, args, kwargs: norms.append(
                projections(module, args[0] if args else kwargs["hidden_states"])[1].norm(dim=-1).mean()
            ),
            with_kwargs=True,
        )
    assert mean_key_norm(model) is None
    model(ids)
    found = mean_key_norm(model)
    assert not found.requires_grad
    torch.testing.assert_close(found, torch.stack(norms).mean())
    norms.clear()
    past = model(ids[:, :9], use_cache=True).past_key_values
    norms.clear()
    model(ids[:, 9:], past_key_values=past)
    torch.testing.assert_close(mean_key_norm(model), torch.stack(norms).mean())  # of the four new keys alone


def test_nothing_waits_for_the_device(model: PreTrainedModel, ids: torch.Tensor) -> None:
    model.to("meta")  # where reading any value is an error
    model(ids.to("meta"))
    assert mean_key_norm(model).device.type == "meta"


@pytest.mark.parametrize("backend", ["sdpa", "eager"])
def test_autocast_stays_near_fp32(family: str, backend: str, ids: torch.Tensor) -> None:
    model = new_model(family, backend)
    exact, exact_norm = model(ids).logits, mean_key_norm(model)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids).logits
    assert logits.dtype == torch.bfloat16 and mean_key_norm(model).dtype == torch.float32
    assert (logits - exact).square().mean().sqrt() < 0.05 * exact.std()
    torch.testing.assert_close(mean_key_norm(model), exact_norm, rtol=0.01, atol=0)
    logits.float().logsumexp(-1).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
