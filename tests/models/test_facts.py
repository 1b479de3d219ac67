"""What is known of a model before it is made, and where that is kept."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import ROOT, change, changed, default_config, first_study

from seedbed.config.load import check
from seedbed.errors import SeedbedError
from seedbed.files import read_json
from seedbed.models import lookup, measure
from seedbed.models.causal_lm import new_model
from seedbed.models.config import NewModel
from seedbed.plan import Plan

FIRST = first_study()
SIZES = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
LLAMA = {"family": "llama", "intermediate_size": 96} | SIZES
GROUPED = {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 16, "attention_bias": True, "mlp_bias": True}
GPT2 = {"family": "gpt2", "n_embd": 64, "n_layer": 3, "n_head": 4}
SHAPES = [
    LLAMA,
    LLAMA | GROUPED | {"tie_word_embeddings": True},
    GPT2,
    GPT2 | {"n_inner": 100, "n_positions": 77, "tie_word_embeddings": False},
    LLAMA | {"family": "gemma3_text", "num_key_value_heads": 2, "head_dim": 16},
    LLAMA | {"family": "gpt_neox"},
    {"family": "opt", "ffn_dim": 128, "word_embed_proj_dim": 64} | SIZES,
]


@pytest.mark.parametrize("fields", SHAPES, ids=lambda fields: f"{fields['family']}-{len(fields)}")
@pytest.mark.parametrize(("vocabulary", "positions"), [(1000, 128), (300, 40)])
def test_the_parameter_count_is_that_of_the_real_model(fields: dict, vocabulary: int, positions: int) -> None:
    model = NewModel(**fields)
    with torch.device("meta"):
        real = new_model(model.model_dump(), vocabulary, 0, positions, "sdpa")
    real.tie_weights()
    assert model.facts.parameters(vocabulary, positions) == sum(weight.numel() for weight in real.parameters())


def test_a_formula_counts_blocks_without_embeddings_and_positions() -> None:
    # Radford et al. 2019: 12 width^2 + 13 width of each layer, and a last norm
    small = NewModel(family="gpt2", n_embd=768, n_layer=12, n_head=12, n_positions=1024).facts
    assert small.blocks == 12 * (12 * 768**2 + 13 * 768) + 2 * 768
    assert (small.per_token, small.per_position, small.layers, small.width) == (768, 768, 12, 768)
    assert small.parameters(50257, 4096) == 124_439_808
    layer = 4 * 64 * 64 + 3 * 64 * 96 + 2 * 64
    assert NewModel(**LLAMA).facts.blocks == 3 * layer + 64


def test_positions_and_recurrence_are_asked_of_the_config() -> None:
    learned, rotary = NewModel(**GPT2).facts, NewModel(**LLAMA | {"max_position_embeddings": 512}).facts
    assert (learned.learned, learned.positions, learned.no_recurrence is None) == (True, None, False)
    assert (rotary.learned, rotary.positions, rotary.no_recurrence) == (False, 512, None)
    assert "model.layers.self_attn.q_proj" in rotary.linear and "transformer.h.attn.c_attn" in learned.linear


def test_numbers_that_yaml_reads_as_text_are_numbers() -> None:
    model = NewModel(**LLAMA | {"max_position_embeddings": "64k", "rms_norm_eps": "1e-6", "hidden_act": "silu"})
    assert (model.max_position_embeddings, model.rms_norm_eps, model.hidden_act) == (64000, 1e-6, "silu")


def test_a_spec_has_what_was_written_and_no_default_of_transformers() -> None:
    assert NewModel(**LLAMA).model_dump(mode="json") == LLAMA | {"key_norm": False}


# --- mistakes ---------------------------------------------------------------------------------------------------------

MISTAKES = [
    ({"hiden_size": 3}, "models.tiny.hiden_size: unknown key; did you mean 'hidden_size'?"),
    ({"family": "lama"}, "models.tiny.family: found 'lama'; did you mean 'llama'?"),
    ({"family": "bart"}, "models.tiny.family: found 'bart', an encoder-decoder; expected a causal language model"),
    (
        {"family": "gemma3"},
        "models.tiny.family: found 'gemma3', which reads more than text; did you mean 'gemma3_text'?",
    ),
    ({"hidden_size": 130}, "hidden_size: hidden_size 130 does not divide into 4 heads; nearest that do: 128 or 132"),
    ({"head_dim": 33}, "head_dim: head_dim 33: RoPE turns pairs; expected an even number"),
    (
        {"num_key_value_heads": 3},
        "num_key_value_heads: 4 num_attention_heads do not divide into groups of 3; nearest: 2",
    ),
    ({"hidden_size": "wide"}, "models.tiny.hidden_size: expected int, got str (value: 'wide')"),
    ({"num_hidden_layers": 0}, "num_hidden_layers: expected a number of at least 1; found 0"),
    ({"num_hidden_layers": 10**6}, "models.tiny.num_hidden_layers: expected at most 500; found 1000000"),
    ({"hidden_size": 10**9}, "models.tiny.hidden_size: expected at most 1048576; found 1000000000"),
    ({"attention_dropout": 2}, "models.tiny.attention_dropout: found 2.0, expected a share from 0 to 1"),
    ({"hidden_act": "silly"}, "models.tiny.hidden_act: found 'silly', which transformers does not know"),
    ({"initializer_range": 3}, "models.tiny.initializer_range: Value must be greater or equal to 0.0"),
    ({"family": "gemma2", "num_key_value_heads": 4}, "models.tiny: gemma2 scales, bounds or shifts its logits"),
    ({"vocab_size": 300}, "models.tiny.vocab_size: is set by Seedbed"),
    ({"rope_theta": "far"}, "models.tiny.rope_theta: expected a number; found 'far'"),
    (
        {"family": "qwen3", "num_key_value_heads": 2, "key_norm": True},
        "key_norm: is there for llama, gpt2; found family",
    ),
]


def told(path: str, value: object) -> str:
    with pytest.raises(SeedbedError) as caught:
        Plan(check(changed(FIRST, path, value)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("fields", "expected"), MISTAKES, ids=[str(fields) for fields, _ in MISTAKES])
def test_a_mistake_is_one_line_with_the_key(fields: dict, expected: str) -> None:
    assert expected in told("models.tiny", FIRST["models"]["tiny"] | fields)


def test_a_mistake_is_told_where_it_was_written() -> None:
    inline = FIRST["models"]["tiny"] | {"hiden": 1}
    assert told("runs.tiny.model", inline).startswith("config: runs.tiny.model.hiden: unknown key")
    vary = {"model.hidden_size": [128, 130]}
    assert told("studies.batch-size.vary", vary).startswith("config: studies.batch-size.vary.model.hidden_size: hidden")


def test_a_model_says_how_large_it_is() -> None:
    assert told("models.tiny", {"family": "llama"}) == "config: models.tiny.hidden_size: missing"
    alias = GPT2 | {"hidden_size": 64}
    assert told("models.tiny", alias) == "config: models.tiny.hidden_size: unknown key; did you mean 'n_embd'?"


def test_a_run_with_recurrence_needs_a_model_that_can() -> None:
    raw = changed(FIRST, "models.tiny", GPT2)
    raw = changed(raw, "runs.tiny.recurrence", {"work_size": 16, "cache_size": 16})
    with pytest.raises(
        SeedbedError, match=r"runs.tiny.recurrence: needs the rotary positions of a llama; found .* gpt2"
    ):
        Plan(check(raw))


def test_lora_targets_of_a_base_elsewhere_are_known_from_its_config(tmp_path: Path) -> None:
    raw = changed(default_config(), "models.other", {"from": str(tmp_path)})
    icae = raw["runs"]["icae"] | {
        "model": "other",
        "tokenizer": "other",
        "decoder": "frozen",
        "lora": {"targets": ["q_prj"]},
    }
    raw = changed(raw, "runs.icae", icae)
    Plan(check(raw))  # nothing is there yet
    model = new_model(LLAMA | {"key_norm": False}, 300, 0, 128, "sdpa")
    model.config.save_pretrained(tmp_path)
    with pytest.raises(
        SeedbedError, match=r"runs.icae.lora.targets: no linear layer 'q_prj' in other; did you mean 'q_proj'"
    ):
        Plan(check(raw))
    Plan(check(changed(raw, "runs.icae.lora.targets", ["q_proj", "layers.1.mlp.up_proj"])))


# --- kept beside the results ------------------------------------------------------------------------------------------

PLANNING = """
import json, sys
from seedbed.config.load import check
from seedbed.plan import Plan
from seedbed.plan.forecast import forecast
from seedbed.models import lookup
plan = Plan(check(json.loads(sys.argv[1])))
forecast(plan)
asked = [name for name in ("torch", "transformers") if name in sys.modules]
print(json.dumps([asked, plan.runs["tiny"].model.facts.blocks]))
"""


def planned(raw: dict) -> list:
    """What a process of its own has loaded after planning, and the size that it knows."""
    command = [sys.executable, "-c", PLANNING, json.dumps(raw, default=str)]
    return json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def test_a_plan_loads_no_torch_whether_facts_are_known_or_not(tmp_path: Path) -> None:
    raw = FIRST | {"results": str(tmp_path / "results")}
    blocks = NewModel(**FIRST["models"]["tiny"]).facts.blocks
    assert planned(raw) == [[], blocks]
    assert not (tmp_path / "results").exists()
    # What is kept is taken as it is.
    lookup.find([NewModel(**FIRST["models"]["tiny"]).model_dump(mode="json")])
    (tmp_path / "results").mkdir()
    lookup.keep(tmp_path / "results")
    path = tmp_path / "results" / lookup.PLACE
    models = read_json(path)["models"]
    change(path, models={key: one | {"blocks": 12345} for key, one in models.items() if "blocks" in one})
    assert planned(raw) == [[], 12345]


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 3}', '{"a": {"blocks": 3}}'])
def test_damaged_facts_are_found_again(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "FOUND", {})
    path = tmp_path / lookup.PLACE
    path.parent.mkdir()
    path.write_text(text)
    asked = NewModel(**LLAMA).model_dump(mode="json")
    lookup.find([asked], tmp_path)
    assert lookup.kept(path) == {lookup.checksum(asked): lookup.FOUND[lookup.checksum(asked)]}


@pytest.mark.parametrize("changes", [{"blocks": "many"}, {"layers": None}, {"linear": 3}, {"problem": "x"}], ids=str)
def test_facts_of_another_type_are_none(tmp_path: Path, changes: dict) -> None:
    asked = NewModel(**LLAMA).model_dump(mode="json")
    (tmp_path / "cache").mkdir()
    lookup.find([asked], tmp_path)
    (key, facts), path = next(iter(lookup.kept(tmp_path / lookup.PLACE).items())), tmp_path / lookup.PLACE
    change(path, models={key: facts | changes})
    assert lookup.kept(path) == {}


def test_facts_are_of_one_version_of_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    before = lookup.checksum(LLAMA)
    monkeypatch.setattr(lookup, "transformers_version", lambda: "6.0.0")
    assert lookup.checksum(LLAMA) != before


def test_a_model_with_too_many_modules_is_told_at_the_field_that_repeats_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "MOST_MODULES", 100)
    assert "problem" not in measure.measure(NewModel(**LLAMA).model_dump())
    found = measure.measure(NewModel(**LLAMA | {"num_hidden_layers": 30}).model_dump())
    assert found["key"] == "num_hidden_layers"
    assert found["problem"] == "makes more than 100 modules; expected fewer layers or experts; found 30"


def test_kinds_of_layers_are_not_repeated_without_end() -> None:
    sizes = {"hidden_size": 64, "num_layers": 24, "num_heads": 2, "intermediate_size": 64}
    model = NewModel(family="gpt_neo", attention_types=[[["global"], 10**9]], **sizes)
    with pytest.raises(SeedbedError, match="model.attention_types: expected each at most 500 times; found 1000000000"):
        assert model.facts
