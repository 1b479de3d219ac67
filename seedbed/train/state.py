"""Weights and optimizer state of a DeepSpeed engine by parameter name, at any ZeRO stage.

ZeRO 1 to 3 keep flat slices of all parameters on each rank; DeepSpeed's `safe_get_full_*` and `safe_set_*` functions
convert. All functions that read are collective: every rank calls them, and only the main process gets tensors.
"""

import torch
from torch import Tensor
from torch.nn import Parameter

from seedbed.errors import SeedbedError
from seedbed.train.optimizers import load_state, state_of

MOMENTS = ("exp_avg", "exp_avg_sq")  # of the optimizers that ZeRO may shard


def parameter_names(module: torch.nn.Module) -> dict[Parameter, str]:
    """Every trainable parameter with the first of its names; frozen ones keep their initial values."""
    return {parameter: name for name, parameter in module.named_parameters() if parameter.requires_grad}


def load_weights(module: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy weights into the module; raises SeedbedError when they belong to another one."""
    names = parameter_names(module)
    unmatched = set(names.values()) ^ weights.keys()
    if unmatched:
        raise SeedbedError(f"checkpoint of another model: {min(unmatched)!r} is in only one of the two")
    with torch.no_grad():
        for parameter, name in names.items():
            parameter.copy_(weights[name])


def weights_of(engine, stage: int, main_process: bool) -> dict[str, Tensor]:
    """Copies of the fp32 weights, on the CPU."""
    from deepspeed.utils import safe_get_full_fp32_param

    weights = {}
    for parameter, name in parameter_names(engine.module).items():
        full = safe_get_full_fp32_param(parameter) if stage else parameter.detach()
        if main_process:
            weights[name] = snapshot(full)
    return weights


def optimizer_state_of(engine, stage: int, main_process: bool) -> dict[str, Tensor]:
    """Copies of the optimizer's state as `<parameter>/<key>`, on the CPU."""
    from deepspeed.utils import safe_get_full_optimizer_state

    names = parameter_names(engine.module)
    if not stage:
        found = state_of(engine.optimizer, names) if main_process else {}
        return {key: snapshot(tensor) for key, tensor in found.items()}
    states = {}
    link(engine, stage)
    for parameter, name in names.items():
        for key in MOMENTS:
            full = safe_get_full_optimizer_state(parameter, key)
            if main_process:
                states[f"{name}/{key}"] = snapshot(full)
        if main_process:
            states[f"{name}/step"] = snapshot(updates_of(engine, stage))
    return states


def snapshot(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()


def load_optimizer_state(engine, stage: int, tensors: dict[str, Tensor]) -> None:
    """Load the state that `optimizer_state_of` returned, at any ZeRO stage, into a newly built engine."""
    names = parameter_names(engine.module)
    if not stage:
        load_state(engine.optimizer, names, tensors)
        return
    updates = next(tensor for key, tensor in tensors.items() if key.endswith("/step"))
    states = engine.optimizer.optimizer.state
    for flat in flat_weights(engine, stage):
        empty = {key: torch.zeros_like(flat) for key in MOMENTS}
        states[flat] = {"step": updates.to(flat.device, copy=True), **empty}
    link(engine, stage)
    for parameter, name in names.items():
        for key in MOMENTS:
            set_moment(parameter, tensors[f"{name}/{key}"], key, stage)


def link(engine, stage: int) -> None:
    """Link each parameter to its moments; DeepSpeed does so too early, once the first of several groups has any."""
    if stage < 3:
        engine.optimizer._hp_optimizer_states_linked = False
        engine.optimizer._lazy_init_hp_params_optimizer_state()


def set_moment(parameter: Parameter, value: Tensor, key: str, stage: int) -> None:
    from deepspeed.utils import (
        safe_get_local_optimizer_state,
        safe_set_full_optimizer_state,
        safe_set_local_optimizer_state,
    )

    if stage < 3:
        safe_set_full_optimizer_state(parameter, value.to(parameter.device), key)
        return
    # Ranks hold equal slices of a parameter; the last one may reach beyond its end.
    size, rank = safe_get_local_optimizer_state(parameter, key).numel(), torch.distributed.get_rank()
    own = value.flatten()[size * rank : size * (rank + 1)]
    padded = torch.nn.functional.pad(own, (0, size - len(own)))
    safe_set_local_optimizer_state(parameter, padded.to(parameter.ds_tensor.device), key)


def flat_weights(engine, stage: int) -> list[Tensor]:
    """The slices of the weights that this rank updates, one per group."""
    zero = engine.optimizer
    return zero.single_partition_of_fp32_groups if stage < 3 else zero.fp32_partitioned_groups_flat


def updates_of(engine, stage: int) -> Tensor:
    """How many updates the optimizer has made."""
    return engine.optimizer.optimizer.state[flat_weights(engine, stage)[0]]["step"]
