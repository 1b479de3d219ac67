"""Blocked attention against attention by hand in double precision, with torch's own in bf16 as the measure of error."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from seedbed.errors import SeedbedError
from seedbed.models import attention
from seedbed.models.attention import BLOCK, above_diagonal, backend, blocked_attention, blocks
from seedbed.models.keynorm import mean_key_norm

SHAPES = {
    "llama": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "attn_pdrop": 0.0},
}
SHAPES |= {f"{family}_keynorm": shape for family, shape in SHAPES.items()}
GPT2_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0}


def states(length: int, kv_heads: int = 4, dtype: torch.dtype = torch.bfloat16) -> list[torch.Tensor]:
    """Queries, keys and values [batch, heads, length, 16], and the gradient of what comes out.

    They are normal, so scores are, too; there are enough numbers for a steady mean of errors.
    """
    generator, batch = torch.Generator().manual_seed(length), 2 if length > 16 else 32
    sizes = [(batch, heads, length, 16) for heads in (4, kv_heads, kv_heads)] + [(batch, length, 4, 16)]
    return [torch.randn(size, generator=generator).to(dtype) for size in sizes]


def by_hand(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    groups = query.shape[1] // key.shape[1]
    key, value = (torch.cat([part[:, [head // groups]] for head in range(4)], 1) for part in (key, value))
    scores = query @ key.transpose(-1, -2) * scale
    future = torch.arange(query.shape[2])[:, None] < torch.arange(query.shape[2])
    return (scores.masked_fill(future, float("-inf")).softmax(-1) @ value).transpose(1, 2)


def with_gradients(function: Callable, inputs: list[torch.Tensor], grad: torch.Tensor) -> list[torch.Tensor]:
    """What comes out, and the gradients of queries, keys and values."""
    leaves = [part.detach().clone().requires_grad_() for part in inputs]
    out = function(*leaves)
    out.backward(grad.to(out.dtype))
    return [out.detach(), *(leaf.grad for leaf in leaves)]


def interface(function: Callable, scaling: float | None = None, **options: object) -> Callable:
    """An attention function of transformers as one of queries, keys and values."""

    def call(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        module = SimpleNamespace(is_causal=True, num_key_value_groups=query.shape[1] // key.shape[1])
        return function(module, query, key, value, None, scaling=scaling, **options)[0]

    return call


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, torch.dtype]]:
    """Which attention was called, and the type of its queries, in order."""
    calls, apply = [], attention.BlockedAttention.apply

    def ours(query: torch.Tensor, *others: object) -> torch.Tensor:
        calls.append(("blocked", query.dtype))
        return apply(query, *others)

    def theirs(module: object, query: torch.Tensor, *others: object, **options: object) -> tuple:
        calls.append(("sdpa", query.dtype))
        return sdpa_attention_forward(module, query, *others, **options)

    monkeypatch.setattr(attention.BlockedAttention, "apply", staticmethod(ours))
    monkeypatch.setattr(attention, "sdpa_attention_forward", theirs)
    return calls


def distance(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.double() - exact).square().mean().sqrt())


def about_as_near(ours: list[torch.Tensor], theirs: list[torch.Tensor], exact: list[torch.Tensor]) -> None:
    """Errors are about twice those of torch at most: its scores stay in fp32, ours are rounded once to bf16."""
    for found, usual, right in zip(ours, theirs, exact, strict=True):
        assert found.shape == right.shape and found.isfinite().all()
        assert distance(found, right) <= max(2.2 * distance(usual, right), 2**-12)


# --- the function -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("length", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 45])
def test_values_and_gradients_are_those_of_attention(taken: list, length: int, kv_heads: int) -> None:
    *inputs, grad = states(length, kv_heads)
    exact = with_gradients(lambda q, k, v: by_hand(q, k, v, 16**-0.5), [part.double() for part in inputs], grad)
    ours = with_gradients(interface(blocked_attention), inputs, grad)
    theirs = with_gradients(interface(sdpa_attention_forward), inputs, grad)
    assert taken == [("blocked", torch.bfloat16)]
    assert {part.dtype for part in ours} == {torch.bfloat16}
    about_as_near(ours, theirs, exact)


@pytest.mark.parametrize("scaling", [1.0, 0.01])
def test_the_scale_is_the_one_that_is_asked_for(scaling: float) -> None:
    *inputs, grad = states(BLOCK + 9)
    inputs[1] = torch.nn.functional.normalize(inputs[1], dim=-1)  # as KeyNorm has them, whose scale is 1
    exact = with_gradients(lambda q, k, v: by_hand(q, k, v, scaling), [part.double() for part in inputs], grad)
    ours = with_gradients(interface(blocked_attention, scaling), inputs, grad)
    about_as_near(ours, with_gradients(interface(sdpa_attention_forward, scaling), inputs, grad), exact)


def test_the_block_does_not_change_the_arithmetic_beyond_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    *inputs, grad = states(50)
    exact = with_gradients(lambda q, k, v: by_hand(q, k, v, 16**-0.5), [part.double() for part in inputs], grad)
    theirs = with_gradients(interface(sdpa_attention_forward), inputs, grad)
    for size in (13, 25, 50, 51):
        monkeypatch.setattr(attention, "BLOCK", size)
        about_as_near(with_gradients(interface(blocked_attention), inputs, grad), theirs, exact)


def test_blocks_see_every_key_up_to_their_queries_and_no_later_block() -> None:
    for length in (1, BLOCK, 3 * BLOCK + 1):
        rows = [row for part, _ in blocks(length) for row in range(part.start, part.stop)]
        assert rows == list(range(length))
        assert all((seen.start, seen.stop) == (0, part.stop) for part, seen in blocks(length))
    assert above_diagonal(slice(5, 8)).tolist() == [[False, True, True], [False, False, True], [False, False, False]]


def test_what_comes_later_changes_nothing_before() -> None:
    query, key, value, _ = states(BLOCK + 20)
    before = interface(blocked_attention)(query, key, value)
    for position in (3, BLOCK - 1, BLOCK, BLOCK + 19):
        key_changed, value_changed = key.clone(), value.clone()
        key_changed[:, :, position] += 3
        value_changed[:, :, position] -= 3
        after = interface(blocked_attention)(query, key_changed, value_changed)
        assert torch.equal(after[:, :position], before[:, :position])
        assert not torch.equal(after[:, position], before[:, position])


def test_large_scores_stay_finite_and_their_shares_add_up_to_one() -> None:
    *inputs, grad = states(BLOCK + 9)
    inputs = [100 * inputs[0], 100 * inputs[1], torch.ones_like(inputs[2])]
    found = with_gradients(interface(blocked_attention), inputs, grad)
    assert all(part.isfinite().all() for part in found)
    torch.testing.assert_close(found[0], torch.ones_like(found[0]), atol=0.01, rtol=0)


def test_fp32_queries_and_keys_are_cast_as_autocast_casts_them(taken: list) -> None:
    *inputs, grad = states(BLOCK + 9, 2)
    wide = [inputs[0].float(), inputs[1].float(), inputs[2]]  # as rotary positions leave them
    with torch.autocast("cpu", torch.bfloat16):
        ours = with_gradients(interface(blocked_attention), wide, grad)
        theirs = with_gradients(interface(sdpa_attention_forward), wide, grad)
    assert taken == [("blocked", torch.bfloat16)]
    assert [part.dtype for part in ours] == [part.dtype for part in theirs]
    assert [part.dtype for part in ours] == [torch.bfloat16, torch.float32, torch.float32, torch.bfloat16]
    exact = with_gradients(lambda q, k, v: by_hand(q, k, v, 16**-0.5), [part.double() for part in inputs], grad)
    about_as_near(ours, theirs, exact)


# --- who does it ------------------------------------------------------------------------------------------------------


def test_other_types_go_to_torch(taken: list) -> None:
    for dtype in (torch.float32, torch.float16, torch.float64):
        *inputs, _ = states(9, dtype=dtype)
        interface(blocked_attention)(*inputs)
    with torch.autocast("cpu", torch.float16):
        interface(blocked_attention)(*states(9)[:3])
    assert [name for name, _ in taken] == ["sdpa"] * 4


def test_dropout_masks_other_keys_and_long_inputs_go_to_torch(taken: list, monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value, _ = states(20)
    module = SimpleNamespace(is_causal=True, num_key_value_groups=1)
    blocked_attention(module, query, key, value, None, dropout=0.1)
    blocked_attention(module, query, key, value, torch.ones(20, 20, dtype=torch.bool).tril())
    blocked_attention(module, query[:, :, -1:], key, value, None)
    monkeypatch.setattr(attention, "LONGEST", 19)
    blocked_attention(module, query, key, value, None)
    assert [name for name, _ in taken] == ["sdpa"] * 4
    blocked_attention(module, query[:, :, :19], key[:, :, :19], value[:, :, :19], None)
    assert taken[4][0] == "blocked"


def test_what_goes_to_torch_comes_back_as_torch_gives_it(taken: list) -> None:
    *inputs, grad = states(20, 2, torch.float32)
    ours = with_gradients(interface(blocked_attention, 0.3), inputs, grad)
    theirs = with_gradients(interface(sdpa_attention_forward, 0.3), inputs, grad)
    assert taken == [("sdpa", torch.float32)]
    assert all(torch.equal(found, expected) for found, expected in zip(ours, theirs, strict=True))


# --- in models --------------------------------------------------------------------------------------------------------


def new_model(family: str, implementation: str, **fields: object) -> PreTrainedModel:
    """A model whose weights are large enough for attention to prefer some keys by far."""
    torch.manual_seed(0)
    special = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    fields = SHAPES[family] | (GPT2_DROPOUT if "gpt2" in family else {}) | fields
    config = AutoConfig.for_model(family, vocab_size=50, initializer_range=0.2, **special, **fields)
    return AutoModelForCausalLM.from_config(config, attn_implementation=implementation, dtype=torch.float32)


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(50, (3, 41), generator=torch.Generator().manual_seed(1))


def loss_gradients(model: PreTrainedModel, ids: torch.Tensor, bf16: bool) -> torch.Tensor:
    """All gradients of the next-token loss as one vector."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).double()


@pytest.mark.parametrize("family", SHAPES)
def test_a_model_learns_the_same(family: str, taken: list, ids: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "BLOCK", 16)
    exact = loss_gradients(new_model(family, "sdpa"), ids, bf16=False)
    usual = loss_gradients(new_model(family, "sdpa"), ids, bf16=True)
    assert not taken
    found = loss_gradients(new_model(family, "blocked"), ids, bf16=True)
    # RoPE makes fp32 of Llama's queries, GPT-2's are bf16: both are taken.
    assert taken == [("blocked", torch.bfloat16)] * 2
    assert 0 < distance(found, exact) <= 1.5 * distance(usual, exact)
    assert distance(found, usual) < 0.05 * float(exact.square().mean().sqrt())


WINDOWS = {
    "mistral": ({}, ["sdpa", "sdpa"]),
    "gemma3_text": ({"layer_types": ["sliding_attention", "full_attention"], "head_dim": 8}, ["sdpa", "blocked"]),
}


@pytest.mark.parametrize("family", WINDOWS)
def test_a_window_shorter_than_the_text_is_left_to_torch(family: str, taken: list, ids: torch.Tensor) -> None:
    fields, layers = WINDOWS[family]
    fields = SHAPES["llama"] | {"sliding_window": 8} | fields
    found, exact, unbounded = (
        windowed(family, name, ids, bf16, **fields | changes)
        for name, bf16, changes in (
            ("blocked", True, {}),
            ("eager", False, {}),
            ("eager", False, {"sliding_window": 64}),
        )
    )
    assert [name for name, _ in taken] == layers
    assert distance(found, exact) < 0.3 * distance(unbounded, exact)


def windowed(family: str, implementation: str, ids: torch.Tensor, bf16: bool, **fields: object) -> torch.Tensor:
    """Logits of a model whose layers see a window."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, vocab_size=50, initializer_range=0.2, pad_token_id=None, **fields)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=implementation, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16), torch.no_grad():
        return model.eval()(ids, use_cache=False).logits.double()


@pytest.mark.parametrize(("option", "name"), [({"position_bias": None}, "blocked"), ({"is_causal": False}, "sdpa")])
def test_an_option_that_is_not_known_is_left_to_torch(option: dict, name: str, taken: list) -> None:
    interface(blocked_attention, 0.3, **option)(*states(20)[:3])
    bias = {"position_bias": torch.zeros(2, 4, 20, 20, dtype=torch.bfloat16)}
    interface(blocked_attention, 0.3, **bias)(*states(20)[:3])
    assert [found for found, _ in taken] == [name, "sdpa"]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_model_in_fp32_is_left_to_torch(family: str, taken: list, ids: torch.Tensor) -> None:
    found = loss_gradients(new_model(family, "blocked"), ids, bf16=False)
    assert taken == [("sdpa", torch.float32)] * 2
    assert torch.equal(found, loss_gradients(new_model(family, "sdpa"), ids, bf16=False))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_padding_is_left_to_torch(family: str, taken: list, ids: torch.Tensor) -> None:
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    logits = {}
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        for name in ("blocked", "sdpa"):
            logits[name] = new_model(family, name).eval()(ids, attention_mask=mask).logits
    assert [name for name, _ in taken] == ["sdpa"] * 2
    assert torch.equal(logits["blocked"], logits["sdpa"])


def test_dropout_is_left_to_torch_and_only_while_training(taken: list, ids: torch.Tensor) -> None:
    model = new_model("gpt2", "blocked", attn_pdrop=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        model.train()(ids)
        model.eval()(ids)
    assert [name for name, _ in taken] == ["sdpa", "sdpa", "blocked", "blocked"]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_what_follows_a_cache_is_left_to_torch(family: str, taken: list, ids: torch.Tensor) -> None:
    model = new_model(family, "blocked").eval()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        whole = model(ids).logits
        past = model(ids[:, :30], use_cache=True).past_key_values
        parts = [model(ids[:, 30:40], past_key_values=past).logits, model(ids[:, 40:], past_key_values=past).logits]
    assert [name for name, _ in taken] == ["blocked"] * 4 + ["sdpa"] * 4
    assert distance(torch.cat(parts, 1), whole[:, 30:].double()) < 0.05 * float(whole.std())


def test_the_key_norm_is_told_here_too(taken: list, ids: torch.Tensor) -> None:
    model, usual = (new_model("llama_keynorm", name).eval() for name in ("blocked", "sdpa"))
    with torch.autocast("cpu", torch.bfloat16):
        model(ids)
        usual(ids)
    assert [name for name, _ in taken] == ["blocked"] * 2
    torch.testing.assert_close(mean_key_norm(model), mean_key_norm(usual), rtol=0.01, atol=0)


# --- names ------------------------------------------------------------------------------------------------------------


def test_auto_is_what_is_fastest_here(monkeypatch: pytest.MonkeyPatch) -> None:
    for cuda, name in ((False, "blocked"), (True, "sdpa")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        assert backend("auto") == name
        assert [backend(other) for other in ("sdpa", "eager")] == ["sdpa", "eager"]


def test_flex_attention_is_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert backend("flex_attention") == "flex_attention"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SeedbedError, match="flex_attention has no backward pass on a CPU; nearest: sdpa"):
        backend("flex_attention")


@pytest.mark.parametrize(("cuda", "missing"), [(False, "a CUDA GPU"), (True, "the package flash-attn")])
def test_flash_attention_that_is_not_there_is_one_line(
    cuda: bool, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(attention, "find_spec", lambda name: None)
    with pytest.raises(SeedbedError) as caught:
        backend("flash_attention_2")
    assert str(caught.value).startswith("attention: flash_attention_2 needs")
    assert missing in str(caught.value) and "\n" not in str(caught.value)


def test_flash_attention_needs_both_gpu_and_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "find_spec", lambda name: name == "flash_attn")
    with pytest.raises(SeedbedError, match="a CUDA GPU"):
        backend("flash_attention_2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert backend("flash_attention_2") == "flash_attention_2"
