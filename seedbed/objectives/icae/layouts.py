"""Positions of an ICAE's memory relative to its context, as plain arithmetic.

`default` appends memory to the context, as the in-context autoencoder does (arXiv 2307.06945). The others place it over
the context that it represents, in the encoder and in the decoder (EPL, arXiv 2409.14364): `uniform` and `uniform-int`
in steps of the compression rate, `spread` evenly over the context whatever its length.

| layout | context of a segment | memory | reconstruction | continuation |
|---|---|---|---|---|
| `default` | 0..L-1 | encoder L+i, decoder i | [AE] k, then k+1, .. | [LM] k, then k+1, .. |
| `uniform` | 1..L | (r+1)/2 + r i | [AE] 0, then 1, .. | [LM] L, then L+1, .. |
| `uniform-int` | 1..L | floor((r+1)/2) + r i | same | same |
| `spread` | 1..L | round(1/2 + c/2 + c i), c = L/k | same | same |

Positions of each segment continue those of the one before, but the encoder of `default` starts each at 0.
"""

from fractions import Fraction

LAYOUTS = ("default", "uniform", "uniform-int", "spread")


def segments(length: int, most: int) -> list[range]:
    """Indices of a context, split into the fewest segments of at most `most` tokens of nearly equal length."""
    count = segment_count(length, most)
    return [range(length * n // count, length * (n + 1) // count) for n in range(count)]


def segment_count(length: int, most: int) -> int:
    return -(-length // most)


def memory_positions(layout: str, length: int, size: int, rate: int, first: int = 0) -> list[float]:
    """Positions of the `size` memory vectors of one segment of `length` tokens, counted like its context.

    They ascend; those before the vector `first` are left out. Halves are rounded to the nearest even number, as in
    torch.
    """
    vectors = range(first, size)
    match layout:
        case "default":
            return [length + i for i in vectors]
        case "uniform":
            return [(rate + 1) / 2 + rate * i for i in vectors]
        case "uniform-int":
            return [(rate + 1) // 2 + rate * i for i in vectors]
        case "spread":
            return [round(Fraction(size + length * (2 * i + 1), 2 * size)) for i in vectors]
    raise ValueError(layout)


def encoder_positions(layout: str, segment: range, size: int, rate: int) -> list[float]:
    """Positions of the tokens of a segment, then of its memory."""
    memory = memory_positions(layout, len(segment), size, rate)
    if layout == "default":
        return [*range(len(segment)), *memory]
    return [place + 1 for place in segment] + [segment.start + position for position in memory]


def decoder_positions(layout: str, parts: list[range], size: int, rate: int) -> list[float]:
    """Positions of the memory of all segments."""
    if layout == "default":
        return list(range(len(parts) * size))
    return [part.start + position for part in parts for position in memory_positions(layout, len(part), size, rate)]


def first_decoded(layout: str, parts: list[range], size: int, reconstructing: bool) -> int:
    """Position of the [AE] or [LM] token; what is decoded follows it."""
    if layout == "default":
        return len(parts) * size
    return 0 if reconstructing else parts[-1].stop
