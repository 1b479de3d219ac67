"""Optimizers from their configuration, and their state by parameter name."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from seedbed.errors import SeedbedError

# Plain numbers in the state of an optimizer are saved as zero-dimensional tensors of these types, which no optimizer
# here uses for anything else.
NUMBERS = {int: torch.int64, float: torch.float64}


def shardable(name: str) -> bool:
    """Whether ZeRO stages 1 to 3 may shard this optimizer: they pass it flat slices of the weights.

    Only an element-wise update is the same on slices; the others depend on rows, matrices or blocks of 256 values.
    """
    return name in ("adamw", "adam")


def build_optimizer(model: torch.nn.Module, spec: dict) -> torch.optim.Optimizer:
    """The optimizer `spec["name"]` over the trainable weights of `model`, as a fused kernel where torch has one.

    Norms and biases (one-dimensional) and embeddings are not decayed, unless `decay_all`; an output head tied to the
    embedding is an embedding. Decay is decoupled (AdamW, arXiv 1711.05101); only `adam` adds it to the gradient. In
    `adafactor` (arXiv 1804.04235) `lr` is relative to the root mean square of each weight, and capped at 1/sqrt(t) at
    update t. `muon` is for the matrices inside the blocks: `MuonAdamW`.

    Raises SeedbedError when `adamw8bit` is not installed or cannot run on this machine.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    embeddings = weights_in(model, torch.nn.Embedding)

    def decays(parameter: Parameter) -> bool:
        return spec["decay_all"] or (parameter.ndim >= 2 and parameter not in embeddings)

    def groups(parameters: list[Parameter], **settings: object) -> list[dict]:
        decayed, plain = partitioned(parameters, decays)
        pairs = [(decayed, spec["weight_decay"]), (plain, 0.0)]
        return [{"params": params, "weight_decay": decay, **settings} for params, decay in pairs if params]

    match spec["name"]:
        case "adamw":
            return torch.optim.AdamW(groups(trainable), **adam_settings(spec), fused=True)
        case "adam":
            return torch.optim.Adam(groups(trainable), **adam_settings(spec), fused=True)
        case "adamw8bit":
            return adamw8bit_class()(groups(trainable), **adam_settings(spec))
        case "adafactor":
            return torch.optim.Adafactor(groups(trainable), lr=spec["lr"])
        case "muon":
            blocks = weights_in(model, torch.nn.ModuleList) - embeddings
            matrices, others = partitioned(trainable, lambda parameter: parameter in blocks and parameter.ndim == 2)
            return MuonAdamW(groups(matrices, muon=True) + groups(others, muon=False), spec)
    raise ValueError(spec["name"])


def adam_settings(spec: dict) -> dict:
    return {"lr": spec["lr"], "betas": tuple(spec["betas"]), "eps": spec["eps"]}


def weights_in(model: torch.nn.Module, kind: type[torch.nn.Module]) -> set[Parameter]:
    """The parameters of all modules of this kind and of their submodules."""
    return {weight for module in model.modules() if isinstance(module, kind) for weight in module.parameters()}


def partitioned(items: list, test: Callable[[Any], bool]) -> tuple[list, list]:
    """The items that pass the test, and the others, in order."""
    passed, others = [], []
    for item in items:
        (passed if test(item) else others).append(item)
    return passed, others


class MuonAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for groups with `"muon": True`, AdamW for those with `"muon": False`.

    Muon's updates are scaled to the root mean square of AdamW's (arXiv 2502.16982), so that one `lr` serves both.
    """

    def __init__(self, groups: list[dict], spec: dict) -> None:
        matrices, others = partitioned(groups, lambda group: group["muon"])
        self.parts = {}  # building a part fills its groups with the defaults it reads later
        if matrices:
            self.parts[True] = torch.optim.Muon(
                matrices, lr=spec["lr"], momentum=spec["momentum"], adjust_lr_fn="match_rms_adamw"
            )
        if others:
            self.parts[False] = torch.optim.AdamW(others, **adam_settings(spec), fused=True)
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for muon, part in self.parts.items():
            # DeepSpeed and load_state_dict replace the groups and state of this object; the parts do not notice.
            part.state = self.state
            part.param_groups = [group for group in self.param_groups if group["muon"] is muon]
            part.step()
        return loss


def adamw8bit_class() -> type[torch.optim.Optimizer]:
    """bitsandbytes' AdamW8bit (arXiv 2110.02861), after a trial step on this machine.

    Its state of tensors with fewer than 4096 values stays in 32 bits.
    """
    try:
        import bitsandbytes
    except ModuleNotFoundError as error:
        if error.name != "bitsandbytes":
            raise
        raise SeedbedError(
            "optimizer.name adamw8bit: needs the package bitsandbytes, which is not installed: "
            "pip install bitsandbytes, or use adamw"
        ) from None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    probe = Parameter(torch.zeros(4096, device=device))
    probe.grad = torch.zeros_like(probe)
    try:
        bitsandbytes.optim.AdamW8bit([probe]).step()
    except Exception as error:  # a library without kernels for this device may raise anything
        found = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise SeedbedError(
            f"optimizer.name adamw8bit: bitsandbytes cannot run on {device} here ({found}); "
            "expected a release that supports this device, or use adamw"
        ) from None
    return bitsandbytes.optim.AdamW8bit


# --- state in files ---------------------------------------------------------------------------------------------------


def state_of(optimizer: torch.optim.Optimizer, names: dict[Parameter, str]) -> dict[str, Tensor]:
    """The optimizer's state as `<name of the parameter>/<key of the state>`.

    The tensors are contiguous and share no memory, as safetensors requires; otherwise they are the optimizer's own, not
    copies, on its device. An entry that is None is left out: a step treats it like a missing one.
    """
    tensors, storages = {}, set()
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if value is None:
                continue
            tensor = as_tensor(value)
            storage = tensor.untyped_storage().data_ptr()
            tensors[f"{names[parameter]}/{key}"] = tensor.clone() if storage in storages else tensor
            storages.add(storage)
    return tensors


def as_tensor(value: Tensor | int | float) -> Tensor:
    if isinstance(value, Tensor):
        return value.contiguous()
    return torch.tensor(value, dtype=NUMBERS[type(value)])


def load_state(optimizer: torch.optim.Optimizer, names: dict[Parameter, str], tensors: dict[str, Tensor]) -> None:
    """Replace the optimizer's state with copies of what `state_of` returned.

    Parameters have to be on their device by then; those without an entry start with no state. Settings of groups stay.
    Raises SeedbedError when the tensors belong to other parameters.
    """
    states = defaultdict(dict)
    for path, tensor in tensors.items():
        name, _, key = path.rpartition("/")
        states[name][key] = tensor
    groups = [(parameter, group) for group in optimizer.param_groups for parameter in group["params"]]
    unknown = states.keys() - {names[parameter] for parameter, _ in groups}
    if unknown:
        raise SeedbedError(f"optimizer state of {min(unknown)}: the optimizer has no such parameter")
    optimizer.state.clear()
    for parameter, group in groups:
        state = states[names[parameter]]
        optimizer.state[parameter] = {key: restored(key, tensor, parameter, group) for key, tensor in state.items()}


def restored(key: str, tensor: Tensor, parameter: Parameter, group: dict) -> Tensor | int | float:
    if tensor.ndim == 0 and tensor.dtype in NUMBERS.values():
        return tensor.item()
    # torch counts updates on the host, as a kernel launch costs more than the addition, unless a kernel reads the count
    on_host = key == "step" and not (group.get("fused") or group.get("capturable"))
    return tensor.to("cpu" if on_host else parameter.device, copy=True)
