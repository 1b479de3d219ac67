"""Segment recurrence against ordinary forwards of the same model with the masks that it amounts to."""

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, PreTrainedModel

import seedbed.models.keynorm  # noqa: F401  (registers llama_keynorm)
from seedbed.errors import SeedbedError
from seedbed.models.recurrence import SegmentCache, hidden_states, logits, prepare

LENGTH = 26
CLOSE = {"atol": 5e-5, "rtol": 1e-4}  # of logits with a standard deviation of about 2


def new_model(family: str = "llama", layers: int = 3, attention: str = "sdpa") -> PreTrainedModel:
    """A small model with grouped queries, its weights large enough for positions and keys to matter."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    shape |= {"vocab_size": 50, "num_hidden_layers": layers, "bos_token_id": None, "eos_token_id": None}
    config = AutoConfig.for_model(family, initializer_range=0.3, **shape)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=torch.float32).eval()
    prepare(model)
    return model


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(50, (2, LENGTH), generator=torch.Generator().manual_seed(1))


def reach(work: int, memory: int) -> torch.Tensor:
    """Which tokens [from, to] a layer attends to: its own segment up to itself, and `memory` tokens before that."""
    position = torch.arange(LENGTH)
    oldest = position // work * work - memory
    return (position[None] <= position[:, None]) & (position[None] >= oldest[:, None])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["llama", "llama_keynorm"])
@pytest.mark.parametrize("work", [1, 7, LENGTH, LENGTH + 3])
def test_a_full_cache_gives_the_logits_of_one_forward(
    family: str, attention: str, work: int, ids: torch.Tensor
) -> None:
    model = new_model(family, attention=attention)
    torch.testing.assert_close(logits(model, ids, work, SegmentCache(LENGTH)), model(ids).logits, **CLOSE)


@pytest.mark.parametrize("family", ["llama", "llama_keynorm"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("memory", [0, 1, 4, 6, 13])
def test_a_small_cache_is_a_mask(family: str, layers: int, memory: int, ids: torch.Tensor) -> None:
    """In every layer: what is cached of a token was computed within the reach that the token had in its segment."""
    model = new_model(family, layers)
    masked = model(ids, attention_mask=reach(4, memory)[None, None]).logits
    torch.testing.assert_close(logits(model, ids, 4, SegmentCache(memory)), masked, **CLOSE)


def test_positions_stay_below_memory_plus_segment(ids: torch.Tensor) -> None:
    model, positions = new_model(), []
    model.model.rotary_emb.register_forward_hook(
        lambda module, args, kwargs, out: positions.append(kwargs.get("position_ids", args[-1])), with_kwargs=True
    )
    prepare(model)  # a second time changes nothing
    logits(model, ids[:, :24], 4, SegmentCache(6))
    assert max(int(made.max()) for made in positions) == 4 + 6 - 1
    assert len(positions) == 2 * 24 // 4  # by segment: those of all keys, those of the queries


def test_a_token_is_felt_through_every_layer_and_not_further(ids: torch.Tensor) -> None:
    layers, memory, segment = 3, 4, slice(20, 24)
    model = new_model(layers=layers)
    before = logits(model, ids, 4, SegmentCache(memory))[:, segment]
    for position, felt in ((segment.start - layers * memory - 1, False), (segment.start - layers * memory, True)):
        changed = ids.clone()
        changed[:, position] = (changed[:, position] + 1) % 50
        assert torch.equal(logits(model, changed, 4, SegmentCache(memory))[:, segment], before) != felt


def test_size_zero_has_no_memory(ids: torch.Tensor) -> None:
    model, cache = new_model(), SegmentCache(0)
    for segment in ids.split(5, dim=1):
        expected = model.model(segment).last_hidden_state
        torch.testing.assert_close(hidden_states(model, segment, cache), expected, **CLOSE)
        assert cache.length == 0 and cache.state() is None


def test_the_cache_holds_the_last_keys_and_values_not_rotated(ids: torch.Tensor) -> None:
    model, cache = new_model(), SegmentCache(6)
    layer = model.model.layers[0]
    inputs = layer.input_layernorm(model.model.embed_tokens(ids))
    keys, values = (
        project(inputs).unflatten(-1, (2, 8)).transpose(1, 2)
        for project in (layer.self_attn.k_proj, layer.self_attn.v_proj)
    )
    end = 0
    for work in (4, 1, 4, 9, 3):
        hidden_states(model, ids[:, end : end + work], cache)
        end += work
        state = cache.state()
        oldest = max(0, end - 6)
        assert cache.length == end - oldest and state.shape == (3, 2, 2, 2, end - oldest, 8)
        torch.testing.assert_close(state[0, 0], keys[:, :, oldest:end], **CLOSE)
        torch.testing.assert_close(state[0, 1], values[:, :, oldest:end], **CLOSE)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_cache_goes_on_from_its_state(precision: torch.dtype, ids: torch.Tensor) -> None:
    model, cache = new_model(), SegmentCache(6)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        for segment in ids[:, :12].split(4, dim=1):
            hidden_states(model, segment, cache)
        resumed = SegmentCache.of(6, cache.state().clone())
        for segment in ids[:, 12:].split(4, dim=1):
            assert torch.equal(hidden_states(model, segment, resumed), hidden_states(model, segment, cache))
    assert torch.equal(resumed.state(), cache.state()) and not cache.state().requires_grad
    assert [made.dtype for made in resumed.layers[0]] == [torch.float32, precision]
    assert SegmentCache.of(6, None).length == 0


def segment_loss(hidden: torch.Tensor, model: PreTrainedModel, targets: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(model.lm_head(hidden).flatten(0, 1), targets.flatten(), reduction="sum")


def recurrent_gradients(model: PreTrainedModel, ids: torch.Tensor, memory: int, stop: int) -> list[torch.Tensor]:
    """Gradients with the cache detached after every `stop` segments of 4 tokens."""
    cache, loss = SegmentCache(memory), 0
    for number, start in enumerate(range(0, 24, 4), 1):
        hidden = hidden_states(model, ids[:, start : start + 4], cache)
        loss = loss + segment_loss(hidden, model, ids[:, start + 1 : start + 5])
        if number % stop == 0:
            loss.backward()
            cache.detach()
            loss = 0
    return gradients(model)


def unrolled_gradients(model: PreTrainedModel, ids: torch.Tensor, memory: int, stop: int) -> list[torch.Tensor]:
    """The same on transformers' own cache, which holds keys rotated to absolute positions."""
    cache = DynamicCache()
    for group in range(0, 24, 4 * stop):
        loss = 0
        for start in range(group, group + 4 * stop, 4):
            old = cache.get_seq_length()
            here = torch.arange(start, start + 4)[None]
            mask = torch.ones(4, old + 4, dtype=torch.bool).tril(old)[None, None]
            made = model.model(ids[:, here[0]], position_ids=here, attention_mask=mask, past_key_values=cache)
            loss = loss + segment_loss(made.last_hidden_state, model, ids[:, here[0] + 1])
            for layer in cache.layers:
                layer.keys, layer.values = layer.keys[:, :, -memory:], layer.values[:, :, -memory:]
        loss.backward()
        for layer in cache.layers:
            layer.keys, layer.values = layer.keys.detach(), layer.values.detach()
    return gradients(model)


def gradients(model: PreTrainedModel) -> list[torch.Tensor]:
    made = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    return made


@pytest.mark.parametrize("family", ["llama", "llama_keynorm"])
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_gradients_cross_so_many_segments(family: str, stop: int, ids: torch.Tensor) -> None:
    model = new_model(family)
    found = recurrent_gradients(model, ids, 6, stop)
    for made, expected in zip(found, unrolled_gradients(model, ids, 6, stop), strict=True):
        torch.testing.assert_close(made, expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-3)
    others = recurrent_gradients(model, ids, 6, 6)
    assert any((made - other).norm() > 0.01 * other.norm() for made, other in zip(found, others, strict=True))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_autocast_with_gradients(attention: str, ids: torch.Tensor) -> None:
    model = new_model(attention=attention)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = logits(model, ids, 7, SegmentCache(LENGTH)), model(ids).logits
        found.float().logsumexp(-1).sum().backward()
    assert found.dtype == torch.bfloat16
    assert (found - expected).square().mean().sqrt() < 0.05 * expected.std()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_prepared_model_still_has_its_ordinary_forward(ids: torch.Tensor) -> None:
    model = new_model()
    before = model(ids).logits
    logits(model, ids, 4, SegmentCache(6))
    prepare(model)
    assert torch.equal(model(ids).logits, before)
    past = model(ids[:, :9], use_cache=True).past_key_values
    torch.testing.assert_close(model(ids[:, 9:], past_key_values=past).logits, before[:, 9:], **CLOSE)


@pytest.mark.parametrize(
    "family,fields,found",
    [
        ("gpt2", {"n_embd": 8, "n_layer": 1, "n_head": 2}, "gpt2"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}}, "dynamic"),
    ],
)
def test_other_positions_are_refused(family: str, fields: dict, found: str) -> None:
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = AutoConfig.for_model(family, vocab_size=8, bos_token_id=1, eos_token_id=2, **(shape | fields))
    with pytest.raises(SeedbedError, match=rf"segment recurrence needs .* found .*{found}$"):
        prepare(AutoModelForCausalLM.from_config(config))


def test_gradient_checkpointing_is_refused(ids: torch.Tensor) -> None:
    model = new_model().train()
    model.gradient_checkpointing_enable()
    with pytest.raises(SeedbedError, match="gradient checkpointing"):
        hidden_states(model, ids, SegmentCache(4))
