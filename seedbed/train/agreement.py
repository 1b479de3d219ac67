"""What any rank wants, known to all of them one step later, so that nobody waits for it."""

import torch
import torch.distributed as dist


class Agreement:
    """Flags that all ranks see at the same step; they travel on the host beside the computation."""

    def __init__(self, world: int) -> None:
        self.group = dist.new_group(backend="gloo") if world > 1 else None
        self.pending: tuple[torch.Tensor, dist.Work] | None = None

    def exchange(self, *wishes: bool) -> list[bool]:
        """Send this step's wishes; return those that any rank had in the step before (with one rank: this one's)."""
        if self.group is None:
            return list(wishes)
        arrived = [False] * len(wishes)
        if self.pending:
            flags, work = self.pending
            work.wait()
            arrived = [bool(flag) for flag in flags.tolist()]
        flags = torch.tensor(wishes, dtype=torch.int32)
        self.pending = flags, dist.all_reduce(flags, op=dist.ReduceOp.MAX, group=self.group, async_op=True)
        return arrived

    def finish(self) -> None:
        """Take in what is still under way; only where all ranks come to it."""
        if self.pending:
            self.pending[1].wait()
