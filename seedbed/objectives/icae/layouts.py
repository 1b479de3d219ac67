"""Where an ICAE's memory lies among the positions of its context, as plain arithmetic.

`default` appends memory to the context, as the in-context autoencoder does (arXiv 2307.06945). The others lay it over
the context that it stands for, in the encoder and in the decoder (EPL, arXiv 2409.14364): `uniform` and `uniform-int`
in steps of the compression rate, `spread` evenly over the context whatever its length.

| layout | context of a segment | memory | reconstruction | continuation |
|---|---|---|---|---|
| `default` | 0..L-1 | encoder L+i, decoder i | [AE] k, then k+1, .. | [LM] k, then k+1, .. |
| `uniform` | 1..L | (r+1)/2 + r i | [AE] 0, then 1, .. | [LM] L, then L+1, .. |
| `uniform-int` | 1..L | floor((r+1)/2) + r i | same | same |
| `spread` | 1..L | round(1/2 + c/2 + c i), c = L/k | same | same |

Of several segments each continues where the one before ended; the encoder of `default` reads each by itself.
"""

from fractions import Fraction
from math import ceil

LAYOUTS = ("default", "uniform", "uniform-int", "spread")


def segments(length: int, most: int) -> list[range]:
    """Places of a context in the fewest segments of at most `most` tokens; their lengths differ by at most one."""
    count = ceil(length / most)
    return [range(length * n // count, length * (n + 1) // count) for n in range(count)]


def memory_positions(layout: str, length: int, size: int, rate: int) -> list[float]:
    """Where `size` memory vectors of one segment of `length` tokens lie, counted as its context is.

    Halves are rounded to the even number, as torch does.
    """
    match layout:
        case "default":
            return [length + i for i in range(size)]
        case "uniform":
            return [(rate + 1) / 2 + rate * i for i in range(size)]
        case "uniform-int":
            return [(rate + 1) // 2 + rate * i for i in range(size)]
        case "spread":
            return [round(Fraction(size + length * (2 * i + 1), 2 * size)) for i in range(size)]
    raise ValueError(layout)


def encoder_positions(layout: str, segment: range, size: int, rate: int) -> list[float]:
    """Of the tokens of a segment, then of its memory."""
    memory = memory_positions(layout, len(segment), size, rate)
    if layout == "default":
        return [*range(len(segment)), *memory]
    return [place + 1 for place in segment] + [segment.start + position for position in memory]


def decoder_positions(layout: str, parts: list[range], size: int, rate: int) -> list[float]:
    """Of the memory of all segments."""
    if layout == "default":
        return list(range(len(parts) * size))
    return [part.start + position for part in parts for position in memory_positions(layout, len(part), size, rate)]


def first_decoded(layout: str, parts: list[range], size: int, reconstructing: bool) -> int:
    """Position of the token that asks for the reconstruction or the continuation; what it asks for follows."""
    if layout == "default":
        return len(parts) * size
    return 0 if reconstructing else parts[-1].stop
