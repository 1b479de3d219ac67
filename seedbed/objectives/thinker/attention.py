"""Attention for heads a few values wide, where matrix products have nothing to multiply.

Tensors are feature-first, [heads, width of a head, positions, batch]: sums over the width and over positions are then
element-wise operations on long rows. With two to eight values a head that takes a third of the time of batched matrix
products on CPUs (benchmarks/thinker.py).
"""

from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

WIDEST = 8  # beyond it, and on GPUs, matrix products are faster


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """softmax(q k / sqrt(c) + bias) v for q [h, c, i, B], k and v [h, c, j, B]; bias [i or 1, j, B or 1]."""
    if q.device.type == "cpu" and q.shape[1] <= WIDEST:
        return Broadcast.apply(q, k, v, bias)
    q, k, v = (part.permute(3, 0, 2, 1) for part in (q, k, v))  # [B, h, positions, c]
    mask = None if bias is None else bias.permute(2, 0, 1)[:, None]
    return F.scaled_dot_product_attention(q, k, v, mask).permute(1, 3, 2, 0)


class Broadcast(torch.autograd.Function):
    """Attention one head at a time, with scores [i, j, B] as sums of products of rows."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        heads, width, queries, batch = q.shape
        q = q / sqrt(width)
        out, weights = torch.empty_like(q), q.new_empty(heads, queries, k.shape[2], batch)
        for head in range(heads):
            products = dot(q[head, :, :, None], k[head, :, None])
            if bias is not None:
                products += bias
            torch.softmax(products, 1, out=weights[head])
            for one in range(width):
                torch.sum(torch.mul(weights[head], v[head, one], out=products), 1, out=out[head, one])
        ctx.save_for_backward(q, k, v, weights, out)
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, weights, result = ctx.saved_tensors
        heads, width = q.shape[:2]
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        buffer, inner = torch.empty_like(weights[0]), (gradient * result).sum(1)
        for head in range(heads):
            out = gradient[head, :, :, None]
            for one in range(width):
                torch.sum(torch.mul(weights[head], out[one], out=buffer), 0, out=dv[head, one])
            # the derivative of softmax, whose sum over weights is known from the result
            products = dot(out, v[head, :, None])
            products.sub_(inner[head, :, None]).mul_(weights[head])
            for one in range(width):
                torch.sum(torch.mul(products, k[head, one], out=buffer), 1, out=dq[head, one])
                torch.sum(torch.mul(products, q[head, one, :, None], out=buffer), 0, out=dk[head, one])
        return dq / sqrt(width), dk, dv, None


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Sum over the first dimension of a product that is broadcast."""
    total = a[0] * b[0]
    for one in range(1, len(a)):
        total.addcmul_(a[one], b[one])
    return total
