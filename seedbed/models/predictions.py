"""Whether a model predicts as losses here compute it: last hidden states times output matrix, from left to right."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers.modeling_outputs import BaseModelOutputWithPast

from seedbed.errors import SeedbedError, first_line
from seedbed.models import keynorm
from seedbed.models.families import learned_positions

LOOKED_AT = 8  # tokens
SCALES = (
    "scales, bounds or shifts its logits, which losses here do not know; expected fields without (such as "
    "final_logit_softcapping: null, logit_scale: 1), or another family"
)
CHANGES = "changes its last hidden states before the output head; expected another family"


@torch.no_grad()
def check_predictions(model: torch.nn.Module) -> None:
    """Raise SeedbedError where the logits of a causal LM, on the CPU in fp32, are something else, or see ahead.

    Scores are put in place of what the output head computes: those of a new model are too small to show a bound.
    """
    what, head = model.config.model_type, model.get_output_embeddings()
    length = min(LOOKED_AT, learned_positions(model.config.get_text_config()) or LOOKED_AT)
    ids = torch.arange(1, length + 1)[None] % head.weight.shape[0]
    changed = torch.cat([ids[:, :-1], ids[:, :1]], dim=1)
    try:
        with still(model), watched(head) as seen:
            logits = model(input_ids=ids, use_cache=False).logits
            hidden, other = (model.base_model(input_ids=read, use_cache=False)[0] for read in (ids, changed))
    except Exception as error:  # each modelling file raises its own
        reason = first_line(error)
        raise SeedbedError(f"model: {what} cannot read {length} tokens: {reason}") from None
    if not torch.equal(logits, seen["scores"]) or getattr(head, "bias", None) is not None:
        raise SeedbedError(f"model: {what} {SCALES}")
    if seen["hidden"].shape != hidden.shape or not near(seen["hidden"], hidden):
        raise SeedbedError(f"model: {what} {CHANGES}")
    if not near(hidden[:, :-1], other[:, :-1]):
        raise SeedbedError(f"model: {what} sees what it has to predict; expected a causal language model")


class Hidden(BaseModelOutputWithPast):
    """What a base model returns, and nothing else that a head might ask for."""

    def __getattr__(self, name: str) -> None:
        return None


def misfit(model: torch.nn.Module) -> str | None:
    """What `check_predictions` will say of the way from hidden states to logits, of a model on the meta device.

    Only that way is computed, with known hidden states and scores; None also where it cannot be gone alone.
    """
    base, head, read, seen = model.base_model, model.get_output_embeddings(), [], []
    hidden = torch.linspace(-1, 1, 2 * model.config.hidden_size).view(1, 2, -1)
    scores = torch.linspace(-100, 100, 2 * head.weight.shape[0]).view(1, 2, -1)
    base.forward = lambda *inputs, **options: read.append(inputs) or Hidden(last_hidden_state=hidden)
    head.forward = lambda states: seen.append(states) or scores
    try:
        logits = model(input_ids=torch.zeros(1, 2, dtype=torch.int64), use_cache=False).logits
    except Exception:  # each modelling file has a way of its own
        return None
    finally:
        del base.forward, head.forward
    if not (read and seen):
        return None
    if seen[0].shape != hidden.shape or not near(seen[0], hidden):
        return CHANGES
    return None if torch.equal(logits, scores) else SCALES


def near(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-3, atol=1e-5)


@contextmanager
def watched(head: torch.nn.Module) -> Iterator[dict]:
    """What goes into the head as `hidden`, and the `scores` that come out in place of its own."""
    seen = {}

    def replaced(part: torch.nn.Module, inputs: tuple, scores: torch.Tensor) -> torch.Tensor:
        seen.update(hidden=inputs[0], scores=torch.linspace(-100, 100, scores.numel()).view_as(scores))
        return seen["scores"]

    hook = head.register_forward_hook(replaced)
    try:
        yield seen
    finally:
        hook.remove()


@contextmanager
def still(model: torch.nn.Module) -> Iterator[None]:
    """Without dropout, and with an attention that computes on the CPU."""
    training, attention = model.training, model.config._attn_implementation
    on_gpus = attention.removeprefix("keynorm_") in ("fa2", "flash_attention_2", "flex_attention")
    try:
        model.eval()
        if on_gpus:
            model.set_attn_implementation("sdpa")
        yield
    finally:
        if on_gpus:
            model.set_attn_implementation(attention)
        keynorm.forget(model)
        model.train(training)
