"""Attention in sums of products against torch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seedbed.objectives.thinker.attention import WIDEST, Broadcast, attend

HEADS, QUERIES, KEYS, BATCH = 3, 4, 5, 2
BIASES = {
    "none": None,
    "full": (QUERIES, KEYS, BATCH),
    "of queries": (QUERIES, KEYS, 1),
    "of samples": (1, KEYS, BATCH),
    "of all": (1, KEYS, 1),
}


def parts(width: int, bias: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    torch.manual_seed(width)
    q, k, v = (torch.randn(HEADS, width, n, BATCH, dtype=dtype) for n in (QUERIES, KEYS, KEYS))
    return q, k, v, None if BIASES[bias] is None else 3 * torch.randn(BIASES[bias], dtype=dtype)


def expected(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """torch's attention, over [B, heads, n, width]."""
    bias = None if bias is None else bias.permute(2, 0, 1)[:, None].expand(BATCH, HEADS, QUERIES, KEYS)
    return F.scaled_dot_product_attention(*(part.permute(3, 0, 2, 1) for part in (q, k, v)), bias).permute(1, 3, 2, 0)


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("width", [1, 2, WIDEST, WIDEST + 1, 16])
def test_values_and_gradients_are_those_of_torch(width: int, bias: str) -> None:
    *tensors, added = parts(width, bias)
    kept, weight = (
        [tensor.clone() for tensor in tensors],
        torch.randn(HEADS, width, QUERIES, BATCH, dtype=torch.float64),
    )
    found = []
    for function in (attend, expected, Broadcast.apply):
        own = [tensor.clone().requires_grad_() for tensor in tensors]
        out = function(*own, added)
        found.append((out, *torch.autograd.grad((out * weight).sum(), own)))
    for ours in (found[0], found[2]):
        for one, two in zip(ours, found[1], strict=True):
            torch.testing.assert_close(one, two)
    assert all(torch.equal(one, two) for one, two in zip(tensors, kept, strict=True))


@pytest.mark.parametrize("bias", BIASES)
def test_gradients_are_those_of_differences(bias: str) -> None:
    *tensors, added = parts(2, bias)
    tensors = [tensor.requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(lambda q, k, v: attend(q, k, v, added), tensors)


@pytest.mark.parametrize("width", [2, 16])
def test_what_is_hidden_has_no_weight(width: int) -> None:
    q, k, v, _ = parts(width, "none", torch.float32)
    bias = torch.zeros(1, KEYS, BATCH)
    bias[:, 3:, 1] = -1e9
    hidden = attend(q, k, v, bias)[..., 1:]
    left_out = attend(q[..., 1:], k[:, :, :3, 1:], v[:, :, :3, 1:], None)
    torch.testing.assert_close(hidden, left_out)
    torch.testing.assert_close(attend(q, k, v, bias)[..., :1], attend(q[..., :1], k[..., :1], v[..., :1], None))
