import torch
from support import saved_model
from transformers import AutoModelForCausalLM

from seedbed.config import Optimizer
from seedbed.plan import dump
from seedbed.train.optimizers import build_optimizer


def test_only_matrices_decay(tokenizer, tmp_path) -> None:
    for family in ("llama", "gpt2"):
        model = AutoModelForCausalLM.from_pretrained(saved_model(tokenizer, tmp_path / family, family))
        decayed, plain = build_optimizer(model, dump(Optimizer(weight_decay=0.3))).param_groups
        names = {parameter: name for name, parameter in model.named_parameters()}
        assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
        assert all(
            "norm" not in names[p] and "ln_" not in names[p] and "bias" not in names[p] for p in decayed["params"]
        )
        assert all(p.ndim < 2 or "embed" in names[p] or "wte" in names[p] or "wpe" in names[p] for p in plain["params"])
        assert len(decayed["params"]) + len(plain["params"]) == len(list(model.parameters()))


def test_settings_reach_the_optimizer() -> None:
    model = torch.nn.Linear(3, 3)
    model.bias.requires_grad = False
    optimizer = build_optimizer(model, dump(Optimizer(lr=0.5, betas=(0.8, 0.9), eps=1e-6)))
    group = optimizer.param_groups[0]
    assert (group["lr"], group["betas"], group["eps"]) == (0.5, (0.8, 0.9), 1e-6)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 1
