"""Models of other families than Seedbed was made for: trained, exported, and read again by transformers alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from training import Runs, run_spec
from transformers import AutoModelForCausalLM

from seedbed.data.tokens import TokenSplit, Windows
from seedbed.errors import SeedbedError
from seedbed.files import read_json, read_jsonl
from seedbed.models.causal_lm import new_model
from seedbed.models.predictions import check_predictions

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = SIZES | {"num_key_value_heads": 2, "head_dim": 8}
FAMILIES = [
    {"family": "qwen3"} | GROUPED,
    # every other layer sees 8 tokens
    {"family": "gemma3_text", "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]} | GROUPED,
    {"family": "gemma3_text", "sliding_window": 8, "tie_word_embeddings": False} | GROUPED,
    {"family": "olmo2", "tie_word_embeddings": True} | SIZES,
    {"family": "gpt_neox", "hidden_act": "gelu_new"} | SIZES,
    {"family": "mistral", "sliding_window": 8, "rope_theta": 1e6} | GROUPED,
    {"family": "llama", "tie_word_embeddings": True, "num_key_value_heads": 1} | SIZES,
    {"family": "gpt2", "tie_word_embeddings": False, "n_embd": 32, "n_layer": 2, "n_head": 2},
]
named = pytest.mark.parametrize("model", FAMILIES, ids=lambda model: f"{model['family']}-{len(model)}")


@named
def test_what_is_trained_is_what_transformers_reads_again(runs: Runs, tmp_path: Path, model: dict) -> None:
    """The loss of validation is that of the exported model by transformers' own attention and loss."""
    spec = run_spec(model=model, budget={"steps": 3})
    out = runs.train(tmp_path / "run", spec)
    first, *_, last = [line["loss"] for line in read_jsonl(out / "metrics.jsonl")]
    assert last < first
    windows = Windows(TokenSplit(runs.tokens, "valid"), 32, spec["seed"])
    count = min(windows.per_epoch, spec["validation"]["tokens"] // 32)
    tokens = torch.from_numpy(np.stack([windows.at(number) for number in range(count)]))
    loaded = AutoModelForCausalLM.from_pretrained(out / "model", attn_implementation="eager")
    with torch.no_grad():
        logits = loaded(tokens[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    assert float(loss) == pytest.approx(read_json(out / "summary.json")["valid_loss"], rel=1e-5)


def untrained(model: dict, attention: str = "auto") -> torch.nn.Module:
    return new_model({"key_norm": False} | model, 300, 2, 32, attention)


@named
def test_nothing_is_dropped_unless_the_user_says_so(model: dict) -> None:
    config = untrained(model).config
    rates = {getattr(config, key, None) for key in ("attention_dropout", "hidden_dropout", "resid_pdrop", "attn_pdrop")}
    assert rates - {None} == {0.0}
    assert "gelu_new" not in config.to_dict().values()


def test_positions_are_those_that_the_run_needs_unless_its_fields_say() -> None:
    mistral, gpt2 = FAMILIES[5], FAMILIES[7]
    assert untrained(mistral).config.max_position_embeddings == untrained(gpt2).config.n_positions == 32
    assert untrained(mistral | {"max_position_embeddings": 99}).config.max_position_embeddings == 99
    assert untrained(mistral).config.rope_parameters["rope_theta"] == 1e6


@pytest.mark.parametrize(
    ("model", "attention"),
    [
        (FAMILIES[0], "blocked"),
        ({"family": "bloom", "hidden_size": 32, "n_layer": 2, "n_head": 2}, "eager"),  # has none but its own
        ({"family": "falcon"} | {key: SIZES[key] for key in SIZES if key != "intermediate_size"}, "sdpa"),
        # torch's attention leaves out the bound of the scores
        ({"family": "gemma2", "final_logit_softcapping": None} | GROUPED, "eager"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["family"],
)
def test_auto_is_an_attention_that_computes_all_of_the_model(model: dict, attention: str) -> None:
    made = untrained(model)
    assert made.config._attn_implementation == attention
    check_predictions(made)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"family": "gemma2"} | GROUPED, "gemma2 scales, bounds or shifts its logits"),
        ({"family": "cohere"} | SIZES, "cohere scales, bounds or shifts its logits"),
        ({"family": "llama4_text"} | GROUPED, "llama4_text changes its last hidden states"),
    ],
    ids=lambda value: value["family"] if isinstance(value, dict) else "",
)
def test_a_model_that_predicts_otherwise_is_refused(model: dict, told: str) -> None:
    with pytest.raises(SeedbedError, match=told) as caught:
        check_predictions(untrained(model))
    assert "\n" not in str(caught.value)


def test_a_model_that_sees_ahead_is_refused() -> None:
    made = untrained(FAMILIES[0])
    for layer in made.model.layers:
        layer.self_attn.is_causal = False
    with pytest.raises(SeedbedError, match="sees what it has to predict"):
        check_predictions(made)


@named
def test_looking_at_predictions_changes_nothing(model: dict) -> None:
    made = untrained(model).train()
    before, state = {key: weight.clone() for key, weight in made.state_dict().items()}, torch.get_rng_state()
    check_predictions(made)
    assert made.training and torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(weight, before[key]) for key, weight in made.state_dict().items())
    assert not made.get_output_embeddings()._forward_hooks


@pytest.mark.parametrize("key_norm", [False, True])
def test_an_attention_for_gpus_alone_is_looked_at_in_place_of_and_kept(key_norm: bool) -> None:
    made = untrained(FAMILIES[6] | {"key_norm": key_norm})
    made.set_attn_implementation("flex_attention")
    before = made.config._attn_implementation
    assert before == ("keynorm_flex_attention" if key_norm else "flex_attention")
    check_predictions(made)
    assert made.config._attn_implementation == before
    assert not any("key_norm" in vars(module) for module in made.modules())
