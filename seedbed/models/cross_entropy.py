"""Cross-entropy of a linear head without ever holding all of its logits.

The head's product, the loss and their gradients are computed for a chunk of positions at a time, the gradients already
in the forward pass (as in Liger Kernel, arXiv 2410.10989): memory is that of one chunk, and nothing is computed twice.
"""

import torch

# Positions x vocabulary at a time: large enough to multiply fast, small enough to stay in a processor's caches.
CHUNK_LOGITS = {"cpu": 2**20, "cuda": 2**27}
# With a large vocabulary the head itself is beyond the caches, and fewer positions would not be worth fetching it.
LEAST_POSITIONS = 128


def linear_cross_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, shares: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean -log softmax(hidden weight^T)[targets] in nats, fp32, under autocast's precision for the product.

    `hidden` [..., d], `weight` [vocabulary, d], `targets` [...] of int64; `shares` [...] is what each target counts for
    in place of an equal share in the mean.
    """
    learning = torch.is_grad_enabled()  # inside the function it never is
    flat, shares = hidden.reshape(-1, hidden.shape[-1]), shares if shares is None else shares.reshape(-1)
    return LinearCrossEntropy.apply(flat, weight, targets.reshape(-1), shares, product_dtype(hidden), learning)


def product_dtype(hidden: torch.Tensor) -> torch.dtype:
    """Autocast's where it is on, else that of the hidden states."""
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


@torch.no_grad()
def linear_scores(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses in nats and whether the target is the likeliest, both fp32 [n], of hidden [n, d] and targets [n]."""
    losses, hits, dtype = [], [], product_dtype(hidden)
    with torch.autocast(hidden.device.type, enabled=False):
        head = weight.to(dtype)
        for rows in chunks(len(hidden), len(weight), hidden.device.type):
            scores = torch.log_softmax(hidden[rows].to(dtype) @ head.T, -1, dtype=torch.float32)
            losses.append(-scores.gather(1, targets[rows, None])[:, 0])
            hits.append((scores.argmax(-1) == targets[rows]).float())
    return torch.cat(losses), torch.cat(hits)


class LinearCrossEntropy(torch.autograd.Function):
    """hidden [n, d], weight [vocabulary, d], targets [n], shares [n] or none -> mean or weighed loss."""

    @staticmethod
    def forward(
        ctx,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        shares: torch.Tensor | None,
        dtype: torch.dtype,
        learning: bool,
    ):
        with torch.autocast(hidden.device.type, enabled=False):
            head, learning = weight.to(dtype), learning and any(ctx.needs_input_grad)
            grad_hidden, grad_weight = torch.empty_like(hidden) if learning else None, None
            total = torch.zeros((), dtype=torch.float32, device=hidden.device)
            for rows in chunks(len(hidden), len(weight), hidden.device.type):
                part, target = hidden[rows].to(dtype), targets[rows, None]
                scores = torch.log_softmax(part @ head.T, -1, dtype=torch.float32)
                found = scores.gather(1, target)
                total -= found.sum() if shares is None else shares[rows] @ found[:, 0]
                if not learning:
                    continue
                grad = scores.exp_().scatter_add_(1, target, scores.new_full(target.shape, -1)).to(dtype)
                # Shares weigh rows, which is the same beside the products and far less than in the logits' gradient.
                weights = 1 if shares is None else shares[rows, None]
                grad_hidden[rows] = grad @ head * weights
                if not ctx.needs_input_grad[1]:  # a frozen head
                    continue
                product = grad.T @ (part * weights).to(dtype)
                grad_weight = product.float() if grad_weight is None else grad_weight.add_(product)
        count = len(hidden) if shares is None else 1
        ctx.mean, ctx.dtypes = 1 / count, (hidden.dtype, weight.dtype)
        if learning:
            ctx.save_for_backward(grad_hidden, grad_weight)
        return total / count

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> tuple:
        grad_hidden, grad_weight = ctx.saved_tensors
        scale, (of_hidden, of_weight) = grad * ctx.mean, ctx.dtypes
        scaled_weight = None if grad_weight is None else (grad_weight * scale).to(of_weight)
        return (grad_hidden * scale).to(of_hidden), scaled_weight, None, None, None, None


def chunks(positions: int, vocabulary: int, device: str) -> list[slice]:
    size = max(LEAST_POSITIONS, CHUNK_LOGITS.get(device, CHUNK_LOGITS["cuda"]) // vocabulary)
    return [slice(start, min(start + size, positions)) for start in range(0, positions, size)]
