import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from seedbed.models.architectures import architecture

SHAPES = [
    {"family": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4},
    {
        "family": "llama",
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "tie_word_embeddings": True,
        "attention_bias": True,
        "mlp_bias": True,
    },
    {"family": "gpt2", "n_embd": 64, "n_layer": 3, "n_head": 4},
    {
        "family": "gpt2",
        "n_embd": 48,
        "n_layer": 2,
        "n_head": 4,
        "n_inner": 100,
        "n_positions": 77,
        "tie_word_embeddings": False,
    },
    # GPT-2 small, 124 M (Radford et al. 2019)
    {"family": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024},
]


@pytest.mark.parametrize("fields", SHAPES, ids=lambda fields: f"{fields['family']}-{len(fields)}")
def test_the_parameter_count_is_that_of_the_real_model(fields: dict) -> None:
    shape, vocab_size, positions = architecture(fields), 1000, 128
    config = {"n_positions": positions} if fields["family"] == "gpt2" else {"max_position_embeddings": positions}
    config = AutoConfig.for_model(fields["family"], vocab_size=vocab_size, **config | shape.to_transformers())
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert shape.parameters(vocab_size, positions) == sum(parameter.numel() for parameter in model.parameters())


def test_gpt2_small_has_124_million() -> None:
    assert architecture(SHAPES[-1]).parameters(50257, 1024) == 124_439_808


def test_the_field_log_model_has_83_million() -> None:
    fields = {
        "family": "llama",
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
    }
    assert round(architecture(fields).parameters(32000, 1024) / 1e6, 1) == 83.1


def test_every_field_reaches_transformers() -> None:
    for fields in SHAPES:
        given = architecture(fields).to_transformers()
        config = AutoConfig.for_model(fields["family"], vocab_size=10, **given)
        assert {key: getattr(config, key) for key in given if key != "rope_parameters"} == {
            key: value for key, value in given.items() if key != "rope_parameters"
        }
    rope = architecture(SHAPES[0] | {"rope_theta": 5e5}).to_transformers()
    assert AutoConfig.for_model("llama", vocab_size=10, **rope).rope_parameters["rope_theta"] == 5e5
