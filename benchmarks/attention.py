"""Causal attention by backend, forward and backward: python benchmarks/attention.py

Times are ratios to `sdpa`, torch's fused attention, over the same numbers in bf16: more than 1 means slower. Backends
take turns in rounds and the median counts. Each backend's output and gradients are compared with those of fp32
arithmetic: the error shown is the largest one, relative to the largest value.
"""

import argparse
import statistics
import sys
import time
from types import SimpleNamespace

import torch
from transformers.masking_utils import create_causal_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama import modeling_llama

from seedbed.hardware import bf16_is_fast, keep_freed_memory
from seedbed.models import attention  # noqa: F401, registers `blocked`

BACKENDS = ("sdpa", "eager", "flex_attention", "blocked")
SHAPES = ((16, 4, 64, 256), (8, 12, 64, 512), (4, 12, 64, 1024), (2, 8, 128, 1024), (1, 12, 64, 2048))
TOLERANCE = 0.05  # bf16 has 8 bits, and the backends round at different places


def inputs(shape: tuple[int, int, int, int], dtype: torch.dtype) -> tuple[list[torch.Tensor], torch.Tensor]:
    """q, k, v [batch, heads, length, head_dim], and the gradient of the output [batch, length, heads, head_dim]."""
    batch, heads, size, length = shape
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(batch, heads, length, size, generator=generator).bfloat16().to(dtype) for _ in range(3)]
    grad = torch.randn(batch, length, heads, size, generator=generator).bfloat16().to(dtype)
    return [part.requires_grad_() for part in parts], grad


def mask(backend: str, shape: tuple[int, int, int, int], dtype: torch.dtype) -> object:
    """What a transformers model hands to the backend for plain causal training."""
    batch, heads, size, length = shape
    config = modeling_llama.LlamaConfig(hidden_size=heads * size, num_attention_heads=heads)
    config._attn_implementation = backend
    embeddings = torch.empty(batch, length, 1, dtype=dtype)
    positions = torch.arange(length)[None]
    return create_causal_mask(config, embeddings, attention_mask=None, past_key_values=None, position_ids=positions)


class Contender:
    """One backend on one shape; calling it goes forward and backward and returns the output and the gradients."""

    def __init__(self, backend: str, shape: tuple[int, int, int, int], dtype: torch.dtype) -> None:
        eager = modeling_llama.eager_attention_forward
        self.function = eager if backend == "eager" else ALL_ATTENTION_FUNCTIONS[backend]
        self.parts, self.grad = inputs(shape, dtype)
        self.mask = mask(backend, shape, dtype)
        self.module = SimpleNamespace(is_causal=True, training=True, num_key_value_groups=1)
        self.scale = shape[2] ** -0.5

    def __call__(self) -> list[torch.Tensor]:
        out, _ = self.function(self.module, *self.parts, self.mask, scaling=self.scale)
        return [out.detach(), *torch.autograd.grad(out, self.parts, self.grad)]


def error(found: list[torch.Tensor], right: list[torch.Tensor]) -> float:
    return max(float((one - two).abs().max() / two.abs().max()) for one, two in zip(found, right, strict=True))


def contenders(shape: tuple[int, int, int, int], dtype: torch.dtype) -> tuple[dict[str, Contender], dict[str, float]]:
    """The backends that run on this shape, and how far each is from fp32; a reason is printed for those that do not."""
    right = Contender("eager", shape, torch.float32)()
    running, errors = {}, {}
    for backend in BACKENDS:
        try:
            contender = Contender(backend, shape, dtype)
            errors[backend] = error(contender(), right)
        except Exception as reason:  # whatever a backend says that does not know this device
            print(f"{backend} {shape}: {' '.join(str(reason).split()).partition('. ')[0]}", file=sys.stderr)
            continue
        if errors[backend] > TOLERANCE:
            raise SystemExit(f"{backend} {shape}: off by {errors[backend]:.3f}, expected at most {TOLERANCE}")
        running[backend] = contender
    return running, errors


def timed(contender: Contender, seconds: float = 0.3) -> float:
    """Mean seconds of a call, over calls for so long."""
    contender()
    calls, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        contender()
        calls += 1
    return (time.perf_counter() - started) / calls


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    args = arguments.parse_args()
    keep_freed_memory()  # as in training
    dtype = torch.bfloat16 if bf16_is_fast() else torch.float32
    print(f"batch x heads x head_dim x length, {dtype}\tsdpa ms\t" + "\t".join(f"{name} (error)" for name in BACKENDS))
    for shape in SHAPES:
        running, errors = contenders(shape, dtype)
        rounds = [{name: timed(contender) for name, contender in running.items()} for _ in range(args.rounds)]
        cells = [" x ".join(map(str, shape)), f"{1000 * statistics.median(times['sdpa'] for times in rounds):.1f}"]
        for name in BACKENDS:
            ratio = statistics.median(times.get(name, 0) / times["sdpa"] for times in rounds)
            cells.append(f"{ratio:.2f} ({errors[name]:.3f})" if name in running else "-")
        print("\t".join(cells), flush=True)


if __name__ == "__main__":
    main()
