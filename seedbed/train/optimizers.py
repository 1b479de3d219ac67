"""Optimizers by their configuration."""

import torch


def build_optimizer(model: torch.nn.Module, spec: dict) -> torch.optim.Optimizer:
    """AdamW over the trainable weights of `model`, as the fused kernel where the device has one.

    Weight decay is for matrices only: not for norms and biases (one-dimensional), nor for embeddings.
    """
    embeddings = {
        parameter
        for module in model.modules()
        if isinstance(module, torch.nn.Embedding)
        for parameter in module.parameters(recurse=False)
    }
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in trainable if parameter.ndim >= 2 and parameter not in embeddings]
    plain = [parameter for parameter in trainable if parameter.ndim < 2 or parameter in embeddings]
    groups = [
        {"params": decayed, "weight_decay": spec["weight_decay"]},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=spec["lr"], betas=tuple(spec["betas"]), eps=spec["eps"], fused=True)
