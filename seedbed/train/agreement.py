"""Flags that any rank may set, known to all ranks one step later, so that no rank waits for them."""

import torch
import torch.distributed as dist


class Agreement:
    """Flags that all ranks see at the same step; they are exchanged on the host while the devices compute."""

    def __init__(self, world: int) -> None:
        self.group = dist.new_group(backend="gloo") if world > 1 else None
        self.pending: tuple[torch.Tensor, dist.Work] | None = None

    def exchange(self, *flags: bool) -> list[bool]:
        """Send this step's flags; return those that any rank set in the step before (with one rank: this step's)."""
        if self.group is None:
            return list(flags)
        received = [False] * len(flags)
        if self.pending:
            merged, work = self.pending
            work.wait()
            received = [bool(flag) for flag in merged.tolist()]
        sent = torch.tensor(flags, dtype=torch.int32)
        self.pending = sent, dist.all_reduce(sent, op=dist.ReduceOp.MAX, group=self.group, async_op=True)
        return received

    def finish(self) -> None:
        """Wait for the last exchange; collective."""
        if self.pending:
            self.pending[1].wait()
