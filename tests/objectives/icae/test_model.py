"""An ICAE: what its batches hold, who sees whom in it, with whose weights it reads, and which of them are trained."""

from collections import Counter
from itertools import combinations, product

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from seedbed.errors import SeedbedError
from seedbed.models import keynorm  # noqa: F401 (makes its model types known)
from seedbed.models.attention import BlockedAttention
from seedbed.objectives.icae.batch import Batch, Sample, batch_of
from seedbed.objectives.icae.geometry import AE, LM, Geometry
from seedbed.objectives.icae.layouts import LAYOUTS
from seedbed.objectives.icae.model import DECODER, ENCODER, Icae, keep_frozen_in_bf16
from seedbed.objectives.icae.objective import Autoencoding

SIZE, RATE, WIDTH, VOCABULARY, EOS = 3, 4, 32, 50, 2
LORA = {"r": 4, "alpha": 8, "dropout": 0.0, "targets": "all-linear"}
KINDS = ("frozen", "trained", "shared")
LLAMA = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
SIZES = {
    "llama": LLAMA,
    "llama_keynorm": LLAMA,
    "gpt2": {"n_embd": WIDTH, "n_layer": 2, "n_head": 2, "n_positions": 64} | NO_DROPOUT,
    "mamba": {"hidden_size": WIDTH, "num_hidden_layers": 2, "state_size": 4},
}


def new_base(family: str = "llama", attention: str | None = None, **fields: object) -> PreTrainedModel:
    """A model, always the same, with weights large enough for attention to prefer some keys."""
    torch.manual_seed(0)
    special = {"bos_token_id": None, "eos_token_id": EOS, "initializer_range": 0.2}
    config = AutoConfig.for_model(family, vocab_size=VOCABULARY, **special | SIZES[family] | fields)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=torch.float32)


def new_shape(layout: str = "default", **changes: object) -> Geometry:
    facts = {"memory_tokens": SIZE, "rate": RATE, "add_special_token_for_lm": True, "leave_tokens_for_lm": 0}
    return Geometry.of({"layout": layout} | facts | changes)


def new_icae(
    layout: str = "default", lora: dict | None = None, decoder: str = "trained", base: PreTrainedModel | None = None
) -> Icae:
    """An ICAE whose trained weights are none that it begins with: LoRA would begin with no effect."""
    made = Icae(base or new_base(), new_shape(layout), lora, decoder)
    with torch.no_grad():
        for weight in trained(made).values():
            weight += 0.1 * torch.randn(weight.shape)
    return made


def trained(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def sample(task: str, length: int, continuation: int = 6) -> Sample:
    """Ids, none of them twice in a row, of a context and its reconstruction or continuation."""
    ids = (np.arange(length + continuation) * 7 + length) % (VOCABULARY - 3) + 3
    context = ids[:length]
    return Sample(task, context, np.append(context, EOS) if task == AE else ids[length:])


def new_batch(layout: str = "default", **changes: object) -> Batch:
    """Three samples of two, one and three segments."""
    samples = [sample(AE, 22), sample(LM, 5), sample(LM, 30, 9)]
    return batch_of(new_shape(layout, **changes), samples)


# --- batches ----------------------------------------------------------------------------------------------------------


def predictions(batch: Batch, row: int) -> list[tuple[int, int]]:
    """The place in its prompt from which each target of a sample is predicted, and the target."""
    width = batch.decoder_ids.shape[1]
    places = batch.predicted_from[batch.sample == row]
    assert set((places // width).tolist()) <= {row}
    return list(zip((places % width).tolist(), batch.targets[batch.sample == row].tolist(), strict=True))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_reconstruction_is_asked_for_and_ends(layout: str) -> None:
    batch, context = new_batch(layout), sample(AE, 22).context.tolist()
    begin = 2 * SIZE  # two segments
    assert predictions(batch, 0) == [(begin + i, token) for i, token in enumerate([*context, EOS])]
    assert batch.decoder_ids[0, begin + 1 : begin + 23].tolist() == context
    assert (batch.special[0], batch.special_at[0]) == (SIZE, begin)


@pytest.mark.parametrize("left", [0, 2])
@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_continuation_has_no_end_and_its_first_tokens_no_labels(layout: str, asked: bool, left: int) -> None:
    batch = new_batch(layout, add_special_token_for_lm=asked, leave_tokens_for_lm=left)
    for row, segments, made in ((1, 1, sample(LM, 5)), (2, 3, sample(LM, 30, 9))):
        begin, continuation = segments * SIZE + asked, made.decoded.tolist()
        assert EOS not in continuation
        expected = [(begin + i - 1, token) for i, token in enumerate(continuation)][left:]
        assert predictions(batch, row) == expected
        assert batch.decoder_ids[row, begin : begin + len(continuation) - 1].tolist() == continuation[:-1]
    assert batch.special.tolist() == [SIZE] + 2 * [SIZE + 1] * asked


@pytest.mark.parametrize("layout", LAYOUTS)
def test_without_memory_a_prompt_is_as_it_was_behind_it(layout: str) -> None:
    geometry, samples = new_shape(layout), [sample(AE, 22), sample(LM, 5)]
    whole, bare = batch_of(geometry, samples), batch_of(geometry, samples, remembered=False)
    for row, memory in ((0, 2 * SIZE), (1, SIZE)):
        assert predictions(bare, row) == [(place - memory, target) for place, target in predictions(whole, row)]
        length = predictions(bare, row)[-1][0] + 1
        for name in ("decoder_ids", "decoder_positions"):
            ours, theirs = getattr(bare, name)[row, :length], getattr(whole, name)[row, memory : memory + length]
            assert torch.equal(ours, theirs)
    assert len(bare.slots) == 0


def test_the_first_token_of_nothing_is_not_predicted() -> None:
    geometry = new_shape(add_special_token_for_lm=False)
    bare = batch_of(geometry, [sample(LM, 5)], remembered=False)
    assert predictions(bare, 0) == list(enumerate(sample(LM, 5).decoded.tolist()[1:]))


def test_every_sample_weighs_the_same() -> None:
    batch = new_batch(leave_tokens_for_lm=2)
    assert len(batch) == 3
    weights = torch.zeros(3).index_add_(0, batch.sample, batch.share)
    torch.testing.assert_close(weights, torch.full((3,), 1 / 3))
    for row in range(3):
        assert len(set(batch.share[batch.sample == row].tolist())) == 1


def test_memory_has_room_behind_every_segment_and_slots_in_the_same_order() -> None:
    batch = new_batch()
    width, wide = batch.encoder_ids.shape[1], batch.decoder_ids.shape[1]
    sizes = [11, 11, 5, 10, 10, 10]
    assert batch.memory_at.tolist() == [row * width + size + i for row, size in enumerate(sizes) for i in range(SIZE)]
    slots = [row * wide + i for row, segments in enumerate((2, 1, 3)) for i in range(segments * SIZE)]
    assert batch.slots.tolist() == slots


def test_only_positions_between_tokens_are_no_whole_numbers() -> None:
    for layout in LAYOUTS:
        kind = torch.float32 if layout == "uniform" else torch.int64
        assert new_batch(layout).encoder_positions.dtype == new_batch(layout).decoder_positions.dtype == kind


# --- who sees whom ----------------------------------------------------------------------------------------------------

READERS = [
    *product(["llama"], LAYOUTS, ["sdpa", "eager", "blocked"]),
    *product(["llama_keynorm"], LAYOUTS, ["sdpa", "blocked"]),
    *product(["gpt2"], ["default", "uniform-int", "spread"], ["sdpa", "blocked"]),
]


def seen(outputs: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """Whether each output [n, d] depends on each input [m, d], bool [n, m]."""
    direction = torch.randn(outputs.shape[-1], generator=torch.Generator().manual_seed(0))
    found = []
    for output in outputs:
        (grad,) = torch.autograd.grad((output.float() * direction).sum(), inputs, retain_graph=True)
        found.append(grad.flatten(0, -2).abs().sum(-1) > 0)
    return torch.stack(found)


def leaf_embeddings(model: Icae, name: str) -> list[torch.Tensor]:
    """Has gradients end at the embeddings of tokens; a tensor for each time that they are read."""
    found = []

    def cut(_module: torch.nn.Module, _ids: tuple, made: torch.Tensor) -> torch.Tensor:
        found.append(made.detach().requires_grad_())
        return found[-1]

    model.part(name).get_input_embeddings().register_forward_hook(cut)
    return found


def reader(family: str, layout: str, attention: str) -> Icae:
    return new_icae(layout, base=new_base(family, attention))


def precision(attention: str) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=attention == "blocked")


@pytest.mark.parametrize(("family", "layout", "attention"), READERS)
def test_memory_sees_every_token_of_its_segment_and_none_of_another(family: str, layout: str, attention: str) -> None:
    model, batch = reader(family, layout, attention), new_batch(layout)
    embeddings = leaf_embeddings(model, ENCODER)
    with precision(attention):
        memory = model.compress(batch)
    width = batch.encoder_ids.shape[1]
    expected = torch.zeros(len(memory), batch.encoder_ids.numel(), dtype=torch.bool)
    for number, place in enumerate(batch.memory_at.tolist()):
        row = place // width
        expected[number, row * width : batch.memory_at[row * SIZE]] = True
    assert torch.equal(seen(memory, embeddings[0]), expected)


@pytest.mark.parametrize(("family", "layout", "attention"), READERS)
def test_what_is_decoded_sees_all_memory_and_nothing_that_comes_later(family: str, layout: str, attention: str) -> None:
    model, batch = reader(family, layout, attention), new_batch(layout)
    embeddings = leaf_embeddings(model, DECODER)
    memory = torch.randn(len(batch.slots), WIDTH, requires_grad=True)
    with precision(attention):
        hidden = model.decode(batch, memory)
    rows, wide = batch.decoder_ids.shape
    ends = [int(batch.predicted_from[batch.sample == row].max()) for row in range(rows)]
    begins = [int(batch.special_at[row]) for row in range(rows)]
    places = [place for row in range(rows) for place in range(row * wide, ends[row] + 1)]
    tokens = torch.zeros(len(places), rows * wide, dtype=torch.bool)
    slots = torch.zeros(len(places), len(batch.slots), dtype=torch.bool)
    for number, place in enumerate(places):
        row = place // wide
        tokens[number, begins[row] + 1 : place + 1] = True
        slots[number] = (batch.slots >= row * wide) & (batch.slots <= place)
    outputs = hidden.flatten(0, 1)[places]
    assert torch.equal(seen(outputs, embeddings[0]), tokens)
    assert torch.equal(seen(outputs, memory), slots)
    # In all, every memory vector is before what is predicted.
    assert seen(hidden.flatten(0, 1)[batch.predicted_from], memory).sum(1).tolist() == [
        {0: 2, 1: 1, 2: 3}[row] * SIZE for row in batch.sample.tolist()
    ]


def test_every_vector_of_memory_has_its_own_view() -> None:
    batch = new_batch("spread")
    memory = new_icae("spread").compress(batch)
    for one, other in combinations(memory.detach(), 2):
        assert (one - other).norm() > 0.01 * one.norm()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_attention_of_our_own_is_not_given_up_for_a_mask(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, apply = [], BlockedAttention.apply
    monkeypatch.setattr(BlockedAttention, "apply", lambda *args: calls.append(args) or apply(*args))
    model, batch = reader("llama", layout, "blocked"), new_batch(layout)
    with precision("blocked"):
        model.decode(batch, model.compress(batch))
    assert len(calls) == 2 * LLAMA["num_hidden_layers"]


def test_a_base_without_positions_appends_memory() -> None:
    model, batch = new_icae(base=new_base("mamba")), new_batch()
    memory = model.compress(batch)
    assert memory.shape == (6 * SIZE, WIDTH) and model.decode(batch, memory).isfinite().all()
    with pytest.raises(SeedbedError) as caught:
        Icae(new_base("mamba"), new_shape("spread"), None, "shared")
    assert str(caught.value) == (
        "layout spread needs a model that takes positions; 'mamba' takes none; expected layout default"
    )


# --- whose weights ----------------------------------------------------------------------------------------------------


def count(weights: object) -> int:
    return sum(weight.numel() for weight in weights)


TABLE = (SIZE + 2) * WIDTH
BASE = count(new_base().parameters())
HEAD = VOCABULARY * WIDTH
# Of rank 4 in both layers: four matrices of attention, three of the MLP.
ADAPTER = 2 * 4 * (4 * (WIDTH + WIDTH) + 3 * (WIDTH + 64))


@pytest.mark.parametrize(("decoder", "adapters"), [("frozen", 1), ("trained", 2), ("shared", 1)])
def test_with_lora_the_weights_of_the_base_are_there_once(decoder: str, adapters: int) -> None:
    model = new_icae(lora=LORA, decoder=decoder)
    assert count(model.parameters()) == BASE + TABLE + adapters * ADAPTER
    assert count(trained(model).values()) == TABLE + adapters * ADAPTER
    assert model.part(ENCODER) is model.part(DECODER)
    names = {ENCODER, DECODER} if decoder == "trained" else {ENCODER}
    assert {name.split(".")[-2] for name in trained(model) if ".lora_" in name} == names


@pytest.mark.parametrize(
    ("decoder", "weights", "learning"),
    [("frozen", 2 * BASE, BASE - HEAD), ("trained", 2 * BASE, 2 * BASE - HEAD), ("shared", BASE, BASE)],
)
def test_without_lora_the_encoder_is_trained_but_for_a_head_that_predicts_nothing(
    decoder: str, weights: int, learning: int
) -> None:
    model = new_icae(decoder=decoder)
    assert count(model.parameters()) == weights + TABLE
    assert count(trained(model).values()) == learning + TABLE


def test_a_head_that_is_also_the_embedding_is_trained() -> None:
    model = new_icae(decoder="trained", base=new_base(tie_word_embeddings=True))
    assert count(trained(model).values()) == 2 * (BASE - HEAD) + TABLE


@pytest.mark.parametrize("lora", [None, LORA], ids=["all", "lora"])
@pytest.mark.parametrize("decoder", KINDS)
def test_every_trained_weight_gets_a_gradient(decoder: str, lora: dict | None) -> None:
    model = new_icae("spread", lora, decoder)
    Autoencoding(model)(new_batch("spread")).backward()
    assert [name for name, weight in trained(model).items() if not weight.grad.abs().sum() > 0] == []
    assert [name for name, weight in model.named_parameters() if weight.grad is not None] == list(trained(model))


def disturb(model: Icae, prefix: str, ending: str = "weight") -> None:
    with torch.no_grad():
        for name, weight in trained(model).items():
            if name.startswith(prefix) and name.endswith(ending):
                weight += 0.1


@pytest.mark.parametrize("lora", [None, LORA], ids=["all", "lora"])
@pytest.mark.parametrize("decoder", KINDS)
@torch.no_grad()
def test_encoder_and_decoder_read_with_weights_of_their_own_unless_they_share_them(
    decoder: str, lora: dict | None
) -> None:
    model, batch = new_icae("spread", lora, decoder), new_batch("spread")
    memory = model.compress(batch)
    hidden = model.decode(batch, memory)
    disturb(model, ENCODER, f"{ENCODER}.weight" if lora else "weight")
    assert not torch.allclose(model.compress(batch), memory)
    assert torch.equal(model.decode(batch, memory), hidden) == (decoder != "shared")
    if decoder == "trained":
        memory = model.compress(batch)
        disturb(model, ENCODER if lora else DECODER, f"{DECODER}.weight" if lora else "weight")
        assert torch.equal(model.compress(batch), memory)
        assert not torch.allclose(model.decode(batch, memory), hidden)


@pytest.mark.parametrize("lora", [None, LORA], ids=["all", "lora"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_frozen_decoder_is_the_base_after_training_too(family: str, lora: dict | None) -> None:
    untouched, batch = new_base(family), new_batch("spread")
    model = new_icae("spread", lora, "frozen", new_base(family))
    module = Autoencoding(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        losses.append(module(batch))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    kept = {
        name.replace(".base_layer", ""): weight
        for name, weight in model.part(DECODER).named_parameters()
        if not weight.requires_grad
    }
    for name, weight in untouched.named_parameters():
        assert torch.equal(kept[name], weight)
    with torch.no_grad():
        memory = model.compress(batch)
        embeddings = untouched.get_input_embeddings()(batch.decoder_ids).flatten(0, 1)
        embeddings[batch.slots], embeddings[batch.special_at] = memory, model.table.weight[batch.special]
        expected = untouched.base_model(
            inputs_embeds=embeddings.view(*batch.decoder_ids.shape, WIDTH),
            position_ids=batch.decoder_positions,
            attention_mask=torch.ones_like(batch.decoder_ids),
        ).last_hidden_state
        assert torch.equal(model.decode(batch, memory), expected)


def test_new_embeddings_are_of_the_size_of_the_old_ones() -> None:
    for scale in (0.02, 0.5):
        base = new_base(initializer_range=scale)
        table = Icae(base, new_shape(memory_tokens=100), None, "shared").table.weight
        assert table.std().item() == pytest.approx(scale, rel=0.1)


def test_an_adapter_is_used_for_as_long_as_it_is_asked_for() -> None:
    model, batch = new_icae(lora=LORA, decoder="trained"), new_batch()
    memory = model.compress(batch)
    with pytest.raises(ZeroDivisionError), model.using(None):
        with model.using(DECODER):
            assert model.adapter == DECODER
        assert model.adapter is None
        raise ZeroDivisionError
    assert model.adapter == ENCODER
    assert torch.equal(model.compress(batch), memory)


# --- gradient checkpointing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [None, LORA], ids=["all", "lora"])
@pytest.mark.parametrize("decoder", KINDS)
def test_gradient_checkpointing_changes_no_gradient(decoder: str, lora: dict | None) -> None:
    found, computed = {}, Counter()
    for checkpointing in (False, True):
        model = new_icae("spread", lora, decoder)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        for part in {model.part(ENCODER), model.part(DECODER)}:
            for layer in part.model.layers:
                layer.mlp.register_forward_pre_hook(lambda *_, key=checkpointing: computed.update([key]))
        loss = Autoencoding(model)(new_batch("spread"))
        loss.backward()
        assert model.lora_layers == [] or model.adapter == ENCODER
        found[checkpointing] = {name: weight.grad for name, weight in trained(model).items()} | {"loss": loss.detach()}
    assert computed == {False: 4, True: 8}  # two layers that encode and decode, and once again each
    for name, expected in found[False].items():
        torch.testing.assert_close(found[True][name], expected, atol=1e-6, rtol=1e-5)


# --- LoRA targets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "targets", "layers"),
    [
        ("llama", "q,v", "q_proj v_proj"),
        ("llama_keynorm", "q,v", "q_proj v_proj"),
        ("gpt2", "q,v", "c_attn"),
        ("gpt2", "all-linear", "c_attn c_fc c_proj"),
        ("llama", "all-linear", "down_proj gate_proj k_proj o_proj q_proj up_proj v_proj"),
        ("llama", ["o_proj", "mlp.up_proj"], "o_proj up_proj"),
        ("llama", ["layers.1.self_attn.q_proj"], "q_proj"),
    ],
    ids=str,
)
@pytest.mark.parametrize("decoder", KINDS)
def test_the_layers_that_are_asked_for_are_adapted(
    decoder: str, family: str, targets: str | list[str], layers: str
) -> None:
    model = Icae(new_base(family), new_shape(), LORA | {"targets": targets}, decoder)
    assert {name.split(".")[-4] for name in trained(model) if ".lora_" in name} == set(layers.split())
    assert len(model.lora_layers) == len([name for name in trained(model) if f"lora_A.{ENCODER}" in name])


@pytest.mark.parametrize(
    ("family", "targets", "told"),
    [
        ("llama", ["q_proj", "w_proj"], "no linear layer 'w_proj' in llama; did you mean 'v_proj'?"),
        ("gpt2", ["query"], "no linear layer 'query' in gpt2; valid: c_attn, c_fc, c_proj"),
        ("llama", ["proj"], "no linear layer 'proj' in llama; did you mean 'v_proj'?"),
        # The loss multiplies with the weights of the head alone, and an embedding is no matrix to be multiplied with.
        ("llama", ["q_proj", "lm_head"], "no linear layer 'lm_head' in llama; valid: "),
        ("llama", ["embed_tokens"], "no linear layer 'embed_tokens' in llama; valid: "),
        ("mamba", "q,v", "the q,v layers of 'mamba' are not known; expected all-linear or a list of names"),
    ],
    ids=str,
)
def test_layers_that_are_not_there_are_told(family: str, targets: str | list[str], told: str) -> None:
    with pytest.raises(SeedbedError) as caught:
        Icae(new_base(family), new_shape(), LORA | {"targets": targets}, "frozen")
    assert str(caught.value).startswith(f"lora.targets: {told}") and "\n" not in str(caught.value)


@pytest.mark.parametrize("tied", [False, True])
def test_frozen_matrices_in_bf16_change_nothing_under_autocast(tied: bool) -> None:
    made = new_icae("spread", LORA, "trained", new_base(tie_word_embeddings=tied))
    batch = batch_of(made.geometry, [Sample(AE, np.arange(10, 20), np.arange(10, 20))])
    found = []
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            loss = Autoencoding(made)(batch)
        loss.backward()
        found.append([loss.detach(), *(weight.grad.clone() for weight in trained(made).values())])
        made.zero_grad()
        keep_frozen_in_bf16(made)
    assert all(torch.equal(before, after) for before, after in zip(*found, strict=True))
    kept = {name: weight.dtype for name, weight in made.named_parameters()}
    assert kept["encoder.model.layers.0.self_attn.q_proj.base_layer.weight"] == torch.bfloat16
    others = (*trained(made), "encoder.model.embed_tokens.weight", "encoder.model.norm.weight")
    assert {kept[name] for name in others} == {torch.float32}
