import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import Parameter
from transformers import AutoConfig, AutoModelForCausalLM

from seedbed.errors import SeedbedError
from seedbed.train.optimizers import build_optimizer, load_state, restored, shardable, state_of

LR, DECAY = 1e-2, 0.3
COMMON = {"lr": LR, "weight_decay": DECAY, "decay_all": False}
ADAM = COMMON | {"betas": [0.9, 0.95], "eps": 1e-8}
SPECS = {
    "adamw": ADAM,
    "adam": ADAM,
    "adamw8bit": ADAM,
    "adafactor": COMMON,
    "muon": ADAM | {"momentum": 0.95},
}
# Wide enough that adamw8bit keeps the matrices of a block in 8 bits.
SHAPES = {
    "llama": {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 32},
}


@pytest.fixture(params=SPECS)
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "adamw8bit":
        pytest.importorskip("bitsandbytes")
    return request.param


def spec_of(name: str, **changes: object) -> dict:
    return {"name": name} | SPECS[name] | changes


def language_model(family: str, **fields: object) -> torch.nn.Module:
    torch.manual_seed(0)
    special = {"bos_token_id": 1, "eos_token_id": 2}
    return AutoModelForCausalLM.from_config(
        AutoConfig.for_model(family, vocab_size=101, **special, **SHAPES[family] | fields)
    )


def names_of(model: torch.nn.Module) -> dict[Parameter, str]:
    return {parameter: name for name, parameter in model.named_parameters()}


def give_gradients(model: torch.nn.Module, step: int, without: tuple[str, ...] = ()) -> None:
    generator = torch.Generator().manual_seed(step)
    for name, parameter in model.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator)
        parameter.grad = None if name in without else drawn


def train(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: range, without: tuple[str, ...] = ()
) -> None:
    """Steps with drawn gradients and the learning rate set in the groups at each, as the engine does."""
    for step in steps:
        give_gradients(model, step, without)
        for group in optimizer.param_groups:
            group["lr"] = LR / (1 + step)
        optimizer.step()


def assert_equal_states(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].dtype == value.dtype, key
        assert torch.equal(found[key], value), key


# --- which weights get what -------------------------------------------------------------------------------------------


def is_plain(name: str) -> bool:
    """By name: norms, biases and embeddings of Llama and GPT-2."""
    return any(part in name for part in ("norm", "ln_", "bias", "embed_tokens", "wte", "wpe"))


@pytest.mark.parametrize("family", SHAPES)
def test_only_matrices_decay(name: str, family: str) -> None:
    model = language_model(family, tie_word_embeddings=False)
    found = {}
    for group in build_optimizer(model, spec_of(name)).param_groups:
        for parameter in group["params"]:
            found[names_of(model)[parameter]] = group["weight_decay"]
    assert found == {weight: 0.0 if is_plain(weight) else DECAY for weight in names_of(model).values()}


def test_decay_all_is_for_all(name: str) -> None:
    optimizer = build_optimizer(language_model("gpt2"), spec_of(name, decay_all=True))
    assert {group["weight_decay"] for group in optimizer.param_groups} == {DECAY}


@pytest.mark.parametrize("family", SHAPES)
def test_a_tied_output_head_counts_as_the_embedding(name: str, family: str) -> None:
    model = language_model(family, tie_word_embeddings=True)
    head = model.get_output_embeddings().weight
    (group,) = [
        group
        for group in build_optimizer(model, spec_of(name)).param_groups
        if any(parameter is head for parameter in group["params"])
    ]
    assert group["weight_decay"] == 0
    assert not group.get("muon")


def test_settings_reach_the_optimizer(name: str) -> None:
    model = torch.nn.Linear(3, 3)
    model.bias.requires_grad = False
    changes = {"lr": 0.5} | ({"betas": [0.8, 0.9], "eps": 1e-6} if "betas" in SPECS[name] else {})
    (group,) = build_optimizer(model, spec_of(name, **changes)).param_groups
    assert group["params"] == [model.weight]
    assert {key: list(group[key]) if key == "betas" else group[key] for key in changes} == changes


def test_the_name_chooses_the_algorithm() -> None:
    """Against the textbook: the first step with a gradient of ones, from weights of 2, with weight decay."""
    moved = {}
    for name in ("adamw", "adam", "adafactor"):
        model = torch.nn.Linear(4, 4, bias=False)
        torch.nn.init.constant_(model.weight, 2.0)
        optimizer = build_optimizer(model, spec_of(name))
        model.weight.grad = torch.ones(4, 4)
        optimizer.step()
        moved[name] = 2.0 - model.weight[0, 0].item()
    assert moved["adamw"] == pytest.approx(LR * DECAY * 2 + LR, rel=1e-4)
    assert moved["adam"] == pytest.approx(LR, rel=1e-4)  # the decay is part of the gradient, whose size Adam ignores
    assert moved["adafactor"] == pytest.approx(LR * DECAY * 2 + LR * 2, rel=1e-4)  # relative to the weights' size


def test_8_bit_adamw_follows_adamw() -> None:
    pytest.importorskip("bitsandbytes")
    models = {name: language_model("llama") for name in ("adamw", "adamw8bit")}
    start = deepcopy(models["adamw"])
    for name, model in models.items():
        optimizer = build_optimizer(model, spec_of(name))
        train(model, optimizer, range(5))
    bits = {entry.dtype for key, entry in state_of(optimizer, names_of(model)).items() if key.endswith("/state1")}
    assert bits == {torch.uint8, torch.float32}
    for weight, exact, first in zip(*(m.parameters() for m in (model, models["adamw"], start)), strict=True):
        assert (weight - exact).norm() < 0.05 * (exact - first).norm()


# --- Muon -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", SHAPES)
def test_muon_is_for_the_matrices_of_the_blocks(family: str) -> None:
    model = language_model(family, tie_word_embeddings=False)
    optimizer = build_optimizer(model, spec_of("muon"))
    found = {names_of(model)[p] for group in optimizer.param_groups if group["muon"] for p in group["params"]}
    assert found == {
        name
        for name in names_of(model).values()
        if (".layers." in name or ".h." in name) and name.endswith("weight") and not is_plain(name)
    }
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_muon_leaves_embeddings_within_blocks_to_adamw() -> None:
    blocks = torch.nn.ModuleList([torch.nn.Embedding(4, 3), torch.nn.Linear(3, 3)])
    optimizer = build_optimizer(blocks, spec_of("muon"))
    found = {names_of(blocks)[p]: group["muon"] for group in optimizer.param_groups for p in group["params"]}
    assert found == {"0.weight": False, "1.weight": True, "1.bias": False}


def test_muon_and_adamw_do_what_each_does_alone() -> None:
    together, alone = language_model("llama"), language_model("llama")
    inner = [p for p, name in names_of(alone).items() if ".layers." in name and "norm" not in name]
    head = [alone.lm_head.weight]
    others = [p for p, name in names_of(alone).items() if is_plain(name)]
    muon = torch.optim.Muon(inner, weight_decay=DECAY, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    groups = [{"params": head, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8, fused=True)
    train(together, build_optimizer(together, spec_of("muon")), range(4))
    for part in (muon, adamw):
        train(alone, part, range(4))
    assert all(torch.equal(a, b) for a, b in zip(together.parameters(), alone.parameters(), strict=True))


def test_one_learning_rate_serves_both_parts_of_muon() -> None:
    model = language_model("llama", hidden_size=64, intermediate_size=256)
    start = deepcopy(model)
    optimizer = build_optimizer(model, spec_of("muon", weight_decay=0.0))
    give_gradients(model, 0)
    optimizer.step()
    sizes = [
        (a - b).square().mean().sqrt().item() / LR for a, b in zip(model.parameters(), start.parameters(), strict=True)
    ]
    # AdamW's updates have a root mean square of up to 1, in long training 0.2 to 0.4, and Muon's are made to have 0.2.
    assert all(0.1 < size < 1.01 for size in sizes)
    assert min(sizes) < 0.25


def test_muon_goes_on_from_its_state_dict() -> None:
    one, other = language_model("gpt2"), language_model("gpt2")
    first, second = build_optimizer(one, spec_of("muon")), build_optimizer(other, spec_of("muon"))
    train(one, first, range(3))
    other.load_state_dict(one.state_dict())
    second.load_state_dict(deepcopy(first.state_dict()))
    train(one, first, range(3, 6))
    train(other, second, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_muon_without_blocks_is_adamw_and_with_nothing_else_has_no_adamw() -> None:
    for layers in (torch.nn.Linear(3, 3), torch.nn.ModuleList([torch.nn.Linear(3, 3, bias=False)])):
        start = deepcopy(layers)
        optimizer = build_optimizer(layers, spec_of("muon"))
        train(layers, optimizer, range(1))
        optimizer.zero_grad()
        for weight, first in zip(layers.parameters(), start.parameters(), strict=True):
            assert weight.grad is None
            assert not torch.equal(weight, first)


def test_muon_evaluates_a_closure() -> None:
    model = torch.nn.Linear(3, 1)
    optimizer = build_optimizer(model, spec_of("muon"))

    def closure() -> torch.Tensor:
        loss = model(torch.ones(1, 3)).square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) > model(torch.ones(1, 3)).square().sum()


# --- DeepSpeed --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deepspeed() -> Iterator[ModuleType]:
    """DeepSpeed as a group of one process."""
    import deepspeed

    # as the engine: the kernel would be compiled first
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.utils.logging.set_log_level_from_string("error")
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    with pytest.MonkeyPatch.context() as patch:
        for key, value in alone.items():
            patch.setenv(key, value)
        deepspeed.init_distributed(dist_backend="gloo", verbose=False)
        yield deepspeed
        torch.distributed.destroy_process_group()


def test_deepspeed_without_zero_steps_the_optimizer_itself(name: str, deepspeed: ModuleType) -> None:
    plain, wrapped = language_model("llama"), language_model("llama")
    optimizer = build_optimizer(plain, spec_of(name))
    settings = {
        "train_micro_batch_size_per_gpu": 2,
        "gradient_clipping": 0.0,
        "zero_optimization": {"stage": 0},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
    engine, *_ = deepspeed.initialize(model=wrapped, optimizer=build_optimizer(wrapped, spec_of(name)), config=settings)
    assert type(engine.optimizer) is type(optimizer)
    for step in range(3):
        tokens = torch.randint(101, (2, 8), generator=torch.Generator().manual_seed(step))
        for group in optimizer.param_groups + engine.optimizer.param_groups:
            group["lr"] = LR / (1 + step)
        optimizer.zero_grad()
        plain(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        engine.backward(engine(input_ids=tokens, labels=tokens).loss)
        engine.step()
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), wrapped.parameters(), strict=True))
    found, expected = state_of(engine.optimizer, names_of(wrapped)), state_of(optimizer, names_of(plain))
    assert_equal_states(found, expected)


def test_zero_may_split_element_wise_optimizers_only() -> None:
    """Stepping half of a flattened matrix by itself, as ZeRO does, must be the same."""
    for name in ("adamw", "adam", "adafactor"):
        whole = SimpleNamespace(weight=torch.nn.Linear(4, 4, bias=False))
        half = torch.nn.ParameterList([whole.weight.weight.detach().flatten()[:8].clone()])
        gradient = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
        whole.weight.weight.grad, half[0].grad = gradient, gradient.flatten()[:8].clone()
        build_optimizer(whole.weight, spec_of(name, decay_all=True)).step()
        build_optimizer(half, spec_of(name, decay_all=True)).step()
        same = torch.allclose(whole.weight.weight.flatten()[:8], half[0], atol=1e-6)
        assert same == shardable(name)
    assert not shardable("muon")
    assert not shardable("adamw8bit")


# --- adamw8bit where it cannot be had ---------------------------------------------------------------------------------


def test_a_missing_bitsandbytes_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(SeedbedError, match=r"^optimizer\.name adamw8bit: .*pip install bitsandbytes.*adamw") as caught:
        build_optimizer(torch.nn.Linear(2, 2), spec_of("adamw8bit"))
    assert "\n" not in str(caught.value)


def test_a_bitsandbytes_without_kernels_for_the_device_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class AdamW8bit(torch.optim.SGD):
        def step(self) -> None:
            raise NotImplementedError("no kernel\nfor this device\n" + 100 * "and so on ")

    monkeypatch.setitem(sys.modules, "bitsandbytes", SimpleNamespace(optim=SimpleNamespace(AdamW8bit=AdamW8bit)))
    with pytest.raises(
        SeedbedError, match=r"^optimizer\.name adamw8bit: .* on cpu .*no kernel for this.*adamw"
    ) as caught:
        build_optimizer(torch.nn.Linear(2, 2), spec_of("adamw8bit"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


# --- state in files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", SHAPES)
def test_a_new_optimizer_goes_on_from_a_file_as_the_old_one(name: str, family: str, tmp_path: Path) -> None:
    model = language_model(family)
    idle = (next(name for name in names_of(model).values() if "norm" in name or "ln_" in name),)  # has no state yet
    optimizer = build_optimizer(model, spec_of(name))
    train(model, optimizer, range(3), without=idle)
    saved = state_of(optimizer, names_of(model))
    save_file(saved, tmp_path / "optimizer.safetensors")

    other = deepcopy(model)
    fresh = build_optimizer(other, spec_of(name))
    load_state(fresh, names_of(other), load_file(tmp_path / "optimizer.safetensors"))
    assert_equal_states(state_of(fresh, names_of(other)), saved)
    assert not any(path.startswith(idle) for path in saved)

    train(model, optimizer, range(3, 6))
    train(other, fresh, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert_equal_states(state_of(fresh, names_of(other)), state_of(optimizer, names_of(model)))


def test_entries_are_called_after_parameter_and_key() -> None:
    model = language_model("llama")
    optimizer = build_optimizer(model, spec_of("adamw"))
    train(model, optimizer, range(1))
    state = state_of(optimizer, names_of(model))
    assert state["model.layers.0.mlp.up_proj.weight/exp_avg"].shape == (96, 64)
    assert state["model.norm.weight/step"] == 1
    assert len(state) == 3 * len(list(model.parameters()))


def test_loaded_state_is_a_copy_and_replaces_all_there_was(name: str) -> None:
    model = language_model("llama")
    optimizer = build_optimizer(model, spec_of(name))
    train(model, optimizer, range(2))
    state = state_of(optimizer, names_of(model))
    kept = {path: tensor.clone() for path, tensor in state.items()}
    other = deepcopy(model)
    second = build_optimizer(other, spec_of(name))
    load_state(second, names_of(other), state)
    train(other, second, range(2, 4))
    assert_equal_states(state_of(optimizer, names_of(model)), kept)
    load_state(second, names_of(other), {})
    assert state_of(second, names_of(other)) == {}


def test_plain_numbers_none_and_shared_tensors_go_through_a_file(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = build_optimizer(model, spec_of("adamw"))
    book = torch.rand(3)
    state = {"step": 3, "scale": 0.1, "nothing": None, "book": book, "view": torch.rand(4, 2).T}
    for parameter in model.parameters():
        optimizer.state[parameter] = dict(state)
    save_file(state_of(optimizer, names_of(model)), tmp_path / "state.safetensors")
    optimizer.state.clear()
    load_state(optimizer, names_of(model), load_file(tmp_path / "state.safetensors"))
    for parameter in model.parameters():
        found = optimizer.state[parameter]
        assert (found["step"], found["scale"]) == (3, 0.1)
        assert (type(found["step"]), type(found["scale"])) == (int, float)
        assert torch.equal(found["book"], book)
        assert torch.equal(found["view"], state["view"])
        assert "nothing" not in found


def test_state_lies_where_the_optimizer_would_put_it() -> None:
    parameter, count = Parameter(torch.empty(2, device="meta")), torch.tensor(3.0)
    assert restored("step", count, parameter, {"fused": True}).device.type == "meta"
    assert restored("step", count, parameter, {"fused": None}).device.type == "cpu"
    assert restored("step", count, parameter, {}).device.type == "cpu"
    assert restored("exp_avg", torch.ones(2), parameter, {}).device.type == "meta"


def test_state_of_another_model_is_refused() -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = build_optimizer(model, spec_of("adamw"))
    train(model, optimizer, range(1))
    kept = state_of(optimizer, names_of(model))
    with pytest.raises(SeedbedError, match=r"head\.weight"):
        load_state(optimizer, names_of(model), {"head.weight/exp_avg": torch.ones(2)})
    assert_equal_states(state_of(optimizer, names_of(model)), kept)
