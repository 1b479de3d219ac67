"""Cross-entropy of a linear head without ever holding all of its logits.

The head's product, the loss and their gradients are computed for a chunk of positions at a time, the gradients already
in the forward pass (as in Liger Kernel, arXiv 2410.10989): memory is that of one chunk, and nothing is computed twice.
"""

import torch

# Positions x vocabulary at a time: large enough to multiply fast, small enough to stay in a processor's caches.
CHUNK_LOGITS = {"cpu": 2**20, "cuda": 2**27}


def linear_cross_entropy(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean -log softmax(hidden weight^T)[targets] in nats, fp32, under autocast's precision for the product.

    `hidden` [..., d], `weight` [vocabulary, d], `targets` [...] of int64.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    learning = torch.is_grad_enabled()  # inside the function it never is
    return LinearCrossEntropy.apply(hidden.reshape(-1, hidden.shape[-1]), weight, targets.reshape(-1), dtype, learning)


class LinearCrossEntropy(torch.autograd.Function):
    """hidden [n, d], weight [vocabulary, d], targets [n] -> mean loss."""

    @staticmethod
    def forward(
        ctx, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, dtype: torch.dtype, learning: bool
    ):
        with torch.autocast(hidden.device.type, enabled=False):
            head, learning = weight.to(dtype), learning and any(ctx.needs_input_grad)
            grad_hidden, grad_weight = torch.empty_like(hidden) if learning else None, None
            total = torch.zeros((), dtype=torch.float32, device=hidden.device)
            for rows in chunks(len(hidden), len(weight), hidden.device.type):
                part, target = hidden[rows].to(dtype), targets[rows, None]
                scores = torch.log_softmax(part @ head.T, -1, dtype=torch.float32)
                total -= scores.gather(1, target).sum()
                if not learning:
                    continue
                grad = scores.exp_().scatter_add_(1, target, scores.new_full(target.shape, -1)).to(dtype)
                grad_hidden[rows] = grad @ head
                product = grad.T @ part
                grad_weight = product.float() if grad_weight is None else grad_weight.add_(product)
        ctx.mean, ctx.dtypes = 1 / len(hidden), (hidden.dtype, weight.dtype)
        if learning:
            ctx.save_for_backward(grad_hidden, grad_weight)
        return total / len(hidden)

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> tuple:
        grad_hidden, grad_weight = ctx.saved_tensors
        scale = grad * ctx.mean
        return (grad_hidden * scale).to(ctx.dtypes[0]), (grad_weight * scale).to(ctx.dtypes[1]), None, None, None


def chunks(positions: int, vocabulary: int, device: str) -> list[slice]:
    size = max(1, CHUNK_LOGITS.get(device, CHUNK_LOGITS["cuda"]) // vocabulary)
    return [slice(start, min(start + size, positions)) for start in range(0, positions, size)]
