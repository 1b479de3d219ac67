import pytest
from support import changed, first_study

from seedbed.config.load import check
from seedbed.errors import SeedbedError
from seedbed.models.presets import PRESETS
from seedbed.plan import Plan

DEFAULT = first_study()

# Millions of weights with a vocabulary: of the literature, or counted by hand.
KNOWN = [
    ("gpt2-124m", 50257, 124.4),
    ("gpt2-355m", 50257, 354.8),
    ("llama-12x512", 32000, 83.1),
    ("llama-40x512", 64000, 414.7),
    ("llama-28x704", 64000, 441.3),
    ("llama-16x1024", 64000, 444.0),
]


def with_model(name: str, models: dict) -> Plan:
    raw = changed(DEFAULT, "runs.tiny.model", name)
    return Plan(check(raw | {"models": models, "studies": {}}))


@pytest.mark.parametrize(("name", "vocab_size", "millions"), KNOWN)
def test_the_parameter_count_is_the_known_one(name: str, vocab_size: int, millions: float) -> None:
    assert round(PRESETS[name].facts.parameters(vocab_size, 1024) / 1e6, 1) == millions


def test_a_name_says_layers_and_width() -> None:
    for name, shape in PRESETS.items():
        if shape.family == "llama":
            assert name == f"llama-{shape.num_hidden_layers}x{shape.hidden_size}"
    gpt2 = [shape for shape in PRESETS.values() if shape.family == "gpt2"]
    assert {(shape.n_positions, shape.n_embd // shape.n_head) for shape in gpt2} == {(1024, 64)}


@pytest.mark.parametrize(
    ("name", "layers", "width", "heads", "inner"),
    [
        ("llama-12x512", 12, 512, 8, 2048),
        ("llama-16x768", 16, 768, 12, 2304),
        ("llama-40x512", 40, 512, 16, 5000),
        ("llama-28x704", 28, 704, 16, 5000),
        ("llama-16x1024", 16, 1024, 16, 5000),
    ],
)
def test_the_shapes_are_those_of_the_field_logs(name: str, layers: int, width: int, heads: int, inner: int) -> None:
    shape = PRESETS[name]
    assert (shape.num_hidden_layers, shape.hidden_size) == (layers, width)
    assert (shape.num_attention_heads, shape.intermediate_size) == (heads, inner)
    assert set(shape.model_extra) == {
        "num_hidden_layers",
        "hidden_size",
        "num_attention_heads",
        "intermediate_size",
    }


@pytest.mark.parametrize("name", PRESETS)
def test_a_run_names_one_without_a_definition(name: str) -> None:
    plan = with_model(name, {})
    assert plan.runs["tiny"].model == PRESETS[name]
    assert plan.runs["tiny"].spec()["model"]["family"] == PRESETS[name].family


def test_a_model_of_the_configuration_goes_before_one_of_the_same_name() -> None:
    own = DEFAULT["models"]["tiny"]
    plan = with_model("llama-12x512", {"llama-12x512": own})
    assert plan.runs["tiny"].model.hidden_size == own["hidden_size"] == 128
    assert with_model("llama-40x512", {"llama-12x512": own}).runs["tiny"].model == PRESETS["llama-40x512"]


def test_a_study_varies_over_names() -> None:
    raw = changed(DEFAULT, "studies.batch-size.vary", {"model": ["tiny", "llama-12x512"]})
    runs = Plan(check(raw)).runs
    assert list(runs) == ["tiny", "tiny+model=llama-12x512"]
    assert runs["tiny+model=llama-12x512"].model == PRESETS["llama-12x512"]


def test_a_name_that_is_nearly_one_is_told() -> None:
    with pytest.raises(SeedbedError, match="no model is called 'gpt2-124M'; did you mean 'gpt2-124m'"):
        with_model("gpt2-124M", {})


def test_gpt2_has_no_more_than_its_positions() -> None:
    raw = changed(changed(DEFAULT, "runs.tiny.model", "gpt2-124m"), "runs.tiny.seq_len", 2048)
    with pytest.raises(SeedbedError, match="seq_len 2048 does not fit the 1024 positions of its model"):
        Plan(check(raw | {"studies": {}}))
