"""Attention backends by name, and one of our own for bf16 on CPUs.

torch's fused attention for CPUs multiplies bf16 without the processor's bf16 units. `blocked` does the same arithmetic
with batched matrix products over blocks of queries, which do use them, and skips the blocks above the diagonal.
"""

from importlib.util import find_spec

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from seedbed.errors import SeedbedError
from seedbed.models import keynorm

BLOCK = 128  # queries at a time: small enough to skip most of what causality masks, large enough to multiply fast
# Options of transformers that change nothing here: windows come as masks.
HARMLESS = {"sliding_window", "position_ids", "use_cache", "cache_position", "is_causal"}
LONGEST = (
    2048  # the probabilities are kept for the backward pass, which is quadratic: beyond this the fused one is used
)


def backend(name: str) -> str:
    """The attention that a run's `attention` asks for on this machine; auto picks the fastest exact one.

    Raises SeedbedError when it is not installed, or cannot train here.
    """
    cuda = torch.cuda.is_available()
    if name == "auto":
        return "sdpa" if cuda else "blocked"
    if name == "flash_attention_2" and not (cuda and find_spec("flash_attn")):
        missing = "the package flash-attn" if cuda else "a CUDA GPU"
        raise SeedbedError(f"attention: flash_attention_2 needs {missing}, which is not here; nearest: sdpa")
    if name == "flex_attention" and not cuda:
        raise SeedbedError("attention: flex_attention has no backward pass on a CPU; nearest: sdpa")
    return name


class BlockedAttention(torch.autograd.Function):
    """Causal softmax(q k^T scale) v of q, k, v [batch, length, head_dim]; sums and exponentials in fp32."""

    @staticmethod
    def forward(ctx, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        out, kept = torch.empty_like(q), []
        for rows, seen in blocks(q.shape[1]):
            scores = torch.bmm(q[:, rows], k[:, seen].transpose(1, 2)).mul_(scale)
            scores[:, :, rows].masked_fill_(above_diagonal(rows), float("-inf"))
            shares = torch.softmax(scores, -1)
            torch.bmm(shares, v[:, seen], out=out[:, rows])
            kept.append(shares)
        ctx.scale = scale
        ctx.save_for_backward(q, k, v, out, *kept)
        return out

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> tuple:
        q, k, v, out, *kept = ctx.saved_tensors
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        inner = (grad.float() * out.float()).sum(-1, keepdim=True).to(q.dtype)
        for (rows, seen), shares in zip(blocks(q.shape[1]), kept, strict=True):
            grad_v[:, seen].baddbmm_(shares.transpose(1, 2), grad[:, rows])
            grad_scores = torch.bmm(grad[:, rows], v[:, seen].transpose(1, 2)).sub_(inner[:, rows]).mul_(shares)
            grad_scores.mul_(ctx.scale)
            torch.bmm(grad_scores, k[:, seen], out=grad_q[:, rows])
            grad_k[:, seen].baddbmm_(grad_scores.transpose(1, 2), q[:, rows])
        return grad_q, grad_k, grad_v, None


def blocks(length: int) -> list[tuple[slice, slice]]:
    """Slices of queries, and of the keys that they may look at."""
    return [
        (slice(start, min(start + BLOCK, length)), slice(0, min(start + BLOCK, length)))
        for start in range(0, length, BLOCK)
    ]


def above_diagonal(rows: slice) -> torch.Tensor:
    size = rows.stop - rows.start
    return torch.ones(size, size, dtype=torch.bool).triu(1)


def blocked_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: object,
) -> tuple[torch.Tensor, None]:
    """Attention in transformers' interface: query [batch, heads, length, head_dim] -> [batch, length, heads, head_dim].

    Whatever is not plain causal training in bf16 on a CPU goes to torch's own attention: with a mask, with dropout,
    after a cache, not causal, or with an option that is not known here.
    """
    length, device = query.shape[2], query.device.type
    # As torch's own attention under autocast: rotary positions have made fp32 of queries and keys.
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype
    ours = (device, dtype) == ("cpu", torch.bfloat16) and length <= LONGEST
    if (
        not (ours and is_causal(module, options))
        or asked_for(options)
        or attention_mask is not None
        or dropout
        or key.shape[2] != length
    ):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    flat = [part.to(dtype).flatten(0, 1).contiguous() for part in (query, key, value)]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out = BlockedAttention.apply(*flat, scale)
    return out.view(query.shape).transpose(1, 2).contiguous(), None


def is_causal(module: torch.nn.Module, options: dict) -> bool:
    said = options.get("is_causal")
    return getattr(module, "is_causal", True) if said is None else said


def asked_for(options: dict) -> set[str]:
    """Options of a call that only torch's own attention may know."""
    return {name for name, value in options.items() if value is not None and value is not False} - HARMLESS


AttentionInterface.register("blocked", blocked_attention)
AttentionMaskInterface.register("blocked", ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
keynorm.register("blocked")
