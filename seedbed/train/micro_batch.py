"""The micro-batch of a run where none is configured: found once per device, then stored with the run."""

import gc

import torch
import torch.distributed as dist

from seedbed.errors import SeedbedError
from seedbed.objectives.contract import Objective, Sizes
from seedbed.records import Record, read_record, write_record
from seedbed.train.execution import cpu_micro_batch, possible_micro_batches
from seedbed.train.job import Job
from seedbed.train.memory import largest_that_fits, ran_out


class Known(Record):
    """micro_batch.json in a run's store: samples by setting."""

    sizes: dict[str, int]


def chosen_micro_batch(job: Job, objective: Objective, sizes: Sizes, precision: str) -> int:
    """Samples per micro-batch: as configured, as found before, or as many as fit into GPU memory now."""
    if job.execution.micro_batch:
        return job.execution.micro_batch
    if not torch.cuda.is_available():
        return cpu_micro_batch(job.unit, job.execution, sizes.positions, sizes.width)
    path, key = job.store / "micro_batch.json", setting(job)
    try:
        known = read_record(path, Known)["sizes"]
    except SeedbedError:  # missing, or damaged: it is found again
        known = {}
    if key not in known:
        candidates = possible_micro_batches(job.unit, job.execution)
        known[key] = smallest_of_ranks(
            largest_that_fits(candidates, lambda size: fits(job, objective, precision, size))
        )
        if not dist.get_rank():
            write_record(path, Known, {"sizes": known})
    return known[key]


def setting(job: Job) -> str:
    """What the size depends on besides the run."""
    execution = job.execution
    return ", ".join(
        [
            torch.cuda.get_device_name(),
            f"{execution.processes} processes",
            f"ZeRO {execution.zero_stage} offload {execution.offload}",
            f"checkpointing {execution.gradient_checkpointing} compile {execution.compile}",
        ]
    )


def smallest_of_ranks(size: int) -> int:
    found = torch.tensor(size, device=torch.cuda.current_device())
    dist.all_reduce(found, op=dist.ReduceOp.MIN)
    return int(found)


def fits(job: Job, objective: Objective, precision: str, size: int) -> bool:
    """Whether forward and backward of `size` samples fit into memory together with the optimizer's state."""
    module = objective.loss_module
    try:
        attempt(job, objective, precision, size)
        return True
    except RuntimeError as error:
        if not ran_out(error):
            raise
        return False
    finally:
        objective.load_state_dict({}, [], None)
        module.zero_grad(set_to_none=True)
        module.to("cpu")
        gc.collect()
        torch.cuda.empty_cache()


def attempt(job: Job, objective: Objective, precision: str, size: int) -> None:
    device, module = torch.device("cuda", torch.cuda.current_device()), objective.loss_module
    objective.prepare(precision)
    module.to(device)
    parameters = sum(weight.numel() for weight in module.parameters() if weight.requires_grad)
    moments = torch.empty(2 * parameters, device=device)  # what the optimizer will hold
    batch = objective.largest_batch(size).to(device)
    with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
        for loss in objective.losses(module, batch, range(size)):
            loss.backward()
    del moments
