"""From samples to the tensors that an ICAE reads: segments for its encoder, prompts for its decoder.

Rows are padded on the right, where causal attention never looks, so that no padding mask is needed and a sample has the
same loss in any batch.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch

from seedbed.objectives.icae import layouts
from seedbed.objectives.icae.geometry import AE, Geometry


@dataclass(frozen=True)
class Sample:
    """A context, and what to decode from its memory: the context and EOS (AE), or its continuation (LM)."""

    task: str
    context: np.ndarray  # ids [length]
    decoded: np.ndarray  # ids [n]


@dataclass
class Batch:
    """S segments of n tokens and B prompts of m tokens; places are indices into the flattened rows.

    `encoder_ids` and `decoder_ids` are arbitrary where there is no token of the text. `memory_at` are the S k places of
    memory in the segments, `slots` those in the prompts, in the same order; `special` are rows of the embedding table,
    at the places `special_at`. `targets` are predicted from the places `predicted_from`; `sample` is the index of the
    sample that each belongs to, and `share` its weight, which adds up to the same for every sample.
    """

    encoder_ids: torch.Tensor  # [S, n]
    encoder_positions: torch.Tensor
    memory_at: torch.Tensor  # [S k]
    decoder_ids: torch.Tensor  # [B, m]
    decoder_positions: torch.Tensor
    slots: torch.Tensor  # [S k]
    special: torch.Tensor
    special_at: torch.Tensor
    targets: torch.Tensor  # [N]
    predicted_from: torch.Tensor
    share: torch.Tensor
    sample: torch.Tensor

    def __len__(self) -> int:
        return len(self.decoder_ids)

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        return self.mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        return self.mapped(torch.Tensor.pin_memory)

    def mapped(self, change) -> "Batch":
        return Batch(**{field.name: change(getattr(self, field.name)) for field in fields(self)})


def batch_of(geometry: Geometry, samples: list[Sample], remembered: bool = True) -> Batch:
    """The tensors of some samples; without memory in the prompts if not `remembered`."""
    size = geometry.memory_tokens
    segments = [segment(geometry, sample, part) for sample in samples for part in geometry.parts(len(sample.context))]
    prompts = [prompt(geometry, sample, remembered) for sample in samples]
    encoder_ids, decoder_ids = padded([ids for ids, _ in segments]), padded([one["ids"] for one in prompts])
    width, wide = encoder_ids.shape[1], decoder_ids.shape[1]
    kind = torch.float32 if geometry.layout == "uniform" else torch.int64
    counts = [len(one["targets"]) for one in prompts]
    return Batch(
        encoder_ids=encoder_ids,
        encoder_positions=padded([positions for _, positions in segments]).to(kind),
        memory_at=spread_out([np.arange(len(ids) - size, len(ids)) for ids, _ in segments], width),
        decoder_ids=decoder_ids,
        decoder_positions=padded([one["positions"] for one in prompts]).to(kind),
        slots=spread_out([one["slots"] for one in prompts], wide),
        special=torch.tensor([row for one in prompts for row in one["special"]], dtype=torch.int64),
        special_at=spread_out([one["special_at"] for one in prompts], wide),
        targets=torch.from_numpy(np.concatenate([one["targets"] for one in prompts])),
        predicted_from=spread_out([one["predicted_from"] for one in prompts], wide),
        share=torch.tensor(np.repeat([1 / count for count in counts], counts), dtype=torch.float32) / len(samples),
        sample=torch.tensor(np.repeat(np.arange(len(samples)), counts)),
    )


def segment(geometry: Geometry, sample: Sample, part: range) -> tuple[np.ndarray, list[float]]:
    """Ids of a segment with room for its memory, and their positions."""
    ids = np.concatenate([sample.context[part.start : part.stop], np.zeros(geometry.memory_tokens, np.int64)])
    return ids, layouts.encoder_positions(geometry.layout, part, geometry.memory_tokens, geometry.rate)


def prompt(geometry: Geometry, sample: Sample, remembered: bool) -> dict:
    """The decoder's input for a sample, its targets, and the places to predict them from."""
    size, parts, reconstructing = geometry.memory_tokens, geometry.parts(len(sample.context)), sample.task == AE
    memory = layouts.decoder_positions(geometry.layout, parts, size, geometry.rate) if remembered else []
    has_token = reconstructing or geometry.add_special_token_for_lm
    token_position = layouts.first_decoded(geometry.layout, parts, size, reconstructing)
    # Without an [LM] token, a continuation takes its position in layout `default`, and the usual ones in the others.
    first = token_position + 1 if has_token or geometry.layout != "default" else token_position
    read = sample.decoded[:-1]
    begin = len(memory) + has_token
    skipped = 0 if reconstructing else geometry.leave_tokens_for_lm
    if begin + skipped == 0:
        skipped = 1  # nothing precedes the first token
    return {
        "ids": np.concatenate([np.zeros(begin, np.int64), read]),
        "positions": [*memory, *([token_position] if has_token else []), *range(first, first + len(read))],
        "slots": np.arange(len(memory)),
        "special": [size if reconstructing else size + 1] if has_token else [],
        "special_at": np.arange(len(memory), begin),
        "targets": sample.decoded[skipped:],
        "predicted_from": np.arange(begin + skipped, begin + len(sample.decoded)) - 1,
    }


def padded(rows: list) -> torch.Tensor:
    """Rows as one tensor [rows, longest] with zeros behind them."""
    filled = np.zeros((len(rows), max(map(len, rows))), np.result_type(*(np.asarray(row).dtype for row in rows)))
    for number, row in enumerate(rows):
        filled[number, : len(row)] = row
    return torch.from_numpy(filled)


def spread_out(places: list[np.ndarray], width: int) -> torch.Tensor:
    """Places within rows of `width` as indices into the flattened rows."""
    return torch.from_numpy(np.concatenate([row * width + own for row, own in enumerate(places)]).astype(np.int64))
