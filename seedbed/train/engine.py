"""DeepSpeed around an objective: from micro-batches to an update, and access to weights and optimizer state."""

from typing import Any

import torch
from torch import Tensor

from seedbed.objectives.contract import Objective
from seedbed.train import state
from seedbed.train.execution import Batching, Execution
from seedbed.train.optimizers import build_optimizer


class Engine:
    """An objective being trained on this rank; precision `bf16` is autocast over fp32 weights.

    Optimizer state, accumulated gradients and exported weights are fp32 at every ZeRO stage. Methods that return state
    are collective, and only the main process gets it.
    """

    def __init__(
        self, objective: Objective, spec: dict, execution: Execution, batching: Batching, precision: str
    ) -> None:
        import deepspeed

        self.objective, self.execution, self.clip = objective, execution, spec["clip"]
        self.stage, self.accumulation = execution.zero_stage, batching.accumulation * objective.losses_per_batch
        if execution.gradient_checkpointing:
            objective.checkpoint_activations()
        if execution.compile:
            objective.compile()
        optimizer = build_optimizer(objective.loss_module, spec["optimizer"])
        self.module, *_ = deepspeed.initialize(
            model=objective.loss_module, optimizer=optimizer, config=self.settings(batching.micro_batch, precision)
        )
        self.module.train()  # a loaded model is in eval mode: no dropout, no gradient checkpointing
        if batching.processes == 1 and not self.stage:
            self.module.enable_backward_allreduce = False  # it would copy all gradients for nothing
        self.last_norm = torch.tensor(0.0)

    def settings(self, micro_batch: int, precision: str) -> dict:
        """DeepSpeed's configuration."""
        zero = {"stage": self.stage}
        if self.execution.offload == "cpu":
            zero["offload_optimizer"] = {"device": "cpu"}
        return {
            "train_micro_batch_size_per_gpu": micro_batch,
            "gradient_accumulation_steps": self.accumulation,
            # DeepSpeed takes a missing value as 1; without ZeRO it does not report the norm, so clipping is done here.
            "gradient_clipping": 0.0 if self.clips_itself else self.clip or 0.0,
            "zero_optimization": zero,
            "zero_allow_untested_optimizer": True,
            # DeepSpeed's own CPU kernel would be compiled at first use; torch has a fused one.
            "zero_force_ds_cpu_optimizer": False,
            "torch_autocast": {"enabled": precision == "bf16", "dtype": "bfloat16"},
            "steps_per_print": 10**9,
        }

    @property
    def device(self) -> torch.device:
        return self.module.device

    @property
    def clips_itself(self) -> bool:
        return self.stage == 0

    def update(self, batches: list[tuple[range, Any]], learning_rate: float, loss_sum: Tensor) -> None:
        """One optimizer step on the micro-batches of this rank; adds the mean of their losses to `loss_sum`."""
        for group in self.module.optimizer.param_groups:
            group["lr"] = learning_rate
        for numbers, batch in batches:
            batch = batch.to(self.device, non_blocking=True)
            for loss in self.objective.losses(self.module, batch, numbers):
                self.module.backward(loss)
                self.clip_gradients()
                self.module.step()
                loss_sum += loss.detach() / self.accumulation

    def clip_gradients(self) -> None:
        if self.clips_itself and self.module.is_gradient_accumulation_boundary():
            limit = self.clip or float("inf")
            self.last_norm = torch.nn.utils.clip_grad_norm_(self.module.module.parameters(), limit)

    def gradient_norm(self) -> float:
        """Norm of the last step's gradient over all weights, before clipping."""
        norm = self.module.get_global_grad_norm() if not self.clips_itself else None
        return float(self.last_norm if norm is None else norm)

    def weights(self, main_process: bool) -> dict[str, Tensor]:
        return state.weights_of(self.module, self.stage, main_process)

    def optimizer_state(self, main_process: bool) -> dict[str, Tensor]:
        return state.optimizer_state_of(self.module, self.stage, main_process)

    def load_optimizer_state(self, tensors: dict[str, Tensor]) -> None:
        state.load_optimizer_state(self.module, self.stage, tensors)
