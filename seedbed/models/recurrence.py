"""Segment recurrence: attention over the segment and a memory of keys and values of the segments before it.

Transformer-XL (arXiv 1901.02860) with rotary positions: keys are kept as they were before rotation, and every segment
counts its positions anew from its oldest key, so that they never exceed memory plus segment. After `prepare(model)` a
`SegmentCache` is what transformers calls `past_key_values`: any call of the model takes it, whatever its attention.
"""

from collections.abc import Callable

import torch
from transformers import LlamaModel
from transformers.models.llama.modeling_llama import rotate_half

from seedbed.errors import SeedbedError


def rotated(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Keys [batch, heads, length, head_dim] turned by the angles of [1, 1, length, head_dim]; -sin turns them back."""
    return states * cos + rotate_half(states) * sin


class SegmentCache:
    """The last `size` keys and values of every layer, first in, first out; 0 keeps nothing.

    One cache belongs to one batch: row i of a segment continues row i of the segment before.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.layers: list[tuple[torch.Tensor, torch.Tensor]] = []  # [batch, kv_heads, length, head_dim] each

    @classmethod
    def of(cls, size: int, state: torch.Tensor | None) -> "SegmentCache":
        """The cache that `state()` was taken from, on the device of `state`."""
        cache = cls(size)
        cache.layers = [] if state is None else [(keys, values) for keys, values in state]
        return cache

    def state(self) -> torch.Tensor | None:
        """What is cached [layers, 2 (keys, values), batch, kv_heads, length, head_dim], detached; None if nothing is.

        Under autocast keys are fp32 and values are not; the tensor has the wider type, which holds both exactly.
        """
        if not self.length:
            return None
        return torch.stack([torch.stack(layer) for layer in self.layers]).detach()

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return self.layers[0][0].shape[2] if self.layers else 0

    def detach(self) -> None:
        """Keep gradients from flowing into the segments up to here."""
        self.layers = [(keys.detach(), values.detach()) for keys, values in self.layers]

    def begin(self, backbone: LlamaModel, queries: int) -> None:
        """Make ready for a segment of `queries` tokens: the angles of its positions, cached ones first."""
        like = backbone.embed_tokens.weight  # for its device and dtype
        positions = torch.arange(self.length + queries, device=like.device)[None]
        self.cos, self.sin = (angles[:, None] for angles in backbone.rotary_emb(like, positions))

    # --- what transformers asks of a cache ----------------------------------------------------------------------------

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Position of the first query."""
        return self.length

    def get_query_offset(self, layer_idx: int = 0) -> int:
        return self.length

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Number of keys that `update` will return, and the position of the first."""
        return self.length + query_length, 0

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cache what a layer made of a segment, return all that it may attend to; keys come and go rotated."""
        if layer_idx == len(self.layers):
            self.layers.append((keys[:, :, :0], values[:, :, :0]))
        old_keys, old_values = self.layers[layer_idx]
        old_keys, old_values = old_keys.to(keys.dtype), old_values.to(values.dtype)  # from a state: both the wider type
        old, new = old_keys.shape[2], keys.shape[2]
        # New tensors throughout: autograd may hold those of the segments before, and a view would hold a whole segment.
        drop, skip = min(old, max(0, old + new - self.size)), max(0, new - self.size)
        cos, sin = self.cos[:, :, old + skip :], self.sin[:, :, old + skip :]
        kept_keys = torch.cat([old_keys[:, :, drop:], rotated(keys[:, :, skip:], cos, -sin)], dim=2)
        kept_values = torch.cat([old_values[:, :, drop:], values[:, :, skip:]], dim=2)
        self.layers[layer_idx] = kept_keys, kept_values
        if not old:
            return keys, values
        old_keys = rotated(old_keys, self.cos[:, :, :old], self.sin[:, :, :old])
        return torch.cat([old_keys, keys], dim=2), torch.cat([old_values, values], dim=2)


def prepare(model: torch.nn.Module) -> None:
    """Make a Llama, or one with KeyNorm, take a `SegmentCache` in `past_key_values`; other calls stay what they were.

    Raises SeedbedError for a model without rotary positions, or with such as depend on the length of the input.
    """
    if problem := misfit(model):
        raise SeedbedError(f"segment recurrence needs {problem}")
    backbone = model.base_model
    if begin_segment not in backbone._forward_pre_hooks.values():
        backbone.register_forward_pre_hook(begin_segment, with_kwargs=True)


def misfit(model: torch.nn.Module) -> str | None:
    """What a model would need to take a `SegmentCache`, and what was found, if it cannot."""
    backbone = model.base_model
    if not isinstance(backbone, LlamaModel):
        return f"the rotary positions of a llama; found a model of type {model.config.model_type}"
    if (found := backbone.rotary_emb.rope_type) not in ("default", "linear", "llama3"):
        return f"rope_type default, linear or llama3; found {found}"
    return None


def begin_segment(backbone: LlamaModel, args: tuple, kwargs: dict) -> None:
    """Before a forward of the backbone: tell its cache where the segment lies."""
    cache = kwargs.get("past_key_values")
    if isinstance(cache, SegmentCache):
        if backbone.training and any(layer.gradient_checkpointing for layer in backbone.layers):
            raise SeedbedError("gradient checkpointing takes the cache away from segment recurrence; use only one")
        cache.begin(backbone, kwargs["input_ids"].shape[1])


def hidden_states(model: torch.nn.Module, ids: torch.Tensor, cache: SegmentCache) -> torch.Tensor:
    """Last hidden states [batch, q, hidden_size] of a segment [batch, q] after those in the cache, which it enters."""
    return model.base_model(input_ids=ids, past_key_values=cache).last_hidden_state


def logits(
    model: torch.nn.Module, ids: torch.Tensor, work_size: int, cache: SegmentCache, at: torch.Tensor | None = None
) -> torch.Tensor:
    """Next-token logits [batch, n, vocab] at the places `at` [batch, n] (default: all) of inputs [batch, length].

    They are read in segments of `work_size` tokens that enter the cache, and go on from what is in it.
    """
    hidden = torch.cat([hidden_states(model, segment, cache) for segment in ids.split(work_size, dim=1)], dim=1)
    hidden = hidden if at is None else hidden.take_along_dim(at[..., None], dim=1)
    return model.get_output_embeddings()(hidden)


def continued(
    model: torch.nn.Module,
    ids: torch.Tensor,
    most: int,
    end: int | None,
    choose: Callable[[torch.Tensor], torch.Tensor],
    work_size: int,
    cache_size: int,
) -> list[int]:
    """The continuation of ids [1, length] by up to `most` tokens, `end` being the last if it comes.

    The prompt is read in segments of `work_size` tokens, then every token is a segment of its own. `choose` makes the
    next token [1, 1] of its logits [1, vocab] in fp32.
    """
    cache, made, read = SegmentCache(cache_size), [], ids
    while len(made) < most and (not made or made[-1] != end):
        for segment in read.split(work_size, dim=1):
            scores = model(input_ids=segment, past_key_values=cache, logits_to_keep=1).logits
        read = choose(scores[:, -1].float())
        made.append(int(read))
    return made
