"""The in-context autoencoder (ICAE, arXiv 2307.06945): a causal LM that compresses a context into memory vectors.

The encoder reads a context and then memory tokens; their last hidden states are the memory. The decoder, the same
weights or others, reads the memory in place of the context. With LoRA both are one base with an update of its own or
none, and the weights of the base are there once. New embeddings lie in a table of their own: the vocabulary of the base
stays as it is.
"""

import copy
import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from transformers import Cache, PreTrainedModel

from seedbed.errors import SeedbedError
from seedbed.models.causal_lm import linear_layers
from seedbed.objectives.icae.batch import Batch
from seedbed.objectives.icae.config import unknown_target
from seedbed.objectives.icae.geometry import Geometry

ENCODER, DECODER = "encoder", "decoder"  # names of adapters and modules


class Icae(torch.nn.Module):
    """A base with what makes an encoder and a decoder of it.

    `lora` (`r`, `alpha`, `dropout`, `targets`) is None where all weights are trained; `decoder` is frozen, trained or
    shared, and `other` its weights where it has some that are no copy of the base. Raises SeedbedError when the base is
    no model for that.
    """

    def __init__(
        self,
        base: PreTrainedModel,
        geometry: Geometry,
        lora: dict | None,
        decoder: str,
        other: PreTrainedModel | None = None,
    ) -> None:
        super().__init__()
        self.geometry, self.config = geometry, base.config.get_text_config()
        width, spread = base.get_input_embeddings().weight.shape[1], base.get_input_embeddings().weight.std().item()
        self.table = torch.nn.Embedding(geometry.table_size, width)
        torch.nn.init.normal_(self.table.weight, std=spread)  # of the size that the base is used to
        # Which adapter each of both reads with; None is the base as it is.
        self.adapters = {ENCODER: None, DECODER: None}
        self.encoder, self.decoder = base, None
        if lora:
            self.adapters = {ENCODER: ENCODER, DECODER: {"trained": DECODER, "shared": ENCODER}.get(decoder)}
            adapt(base, lora, {name for name in self.adapters.values() if name})
        elif decoder != "shared":
            self.decoder = (other or copy.deepcopy(base)).requires_grad_(decoder == "trained")
            if base.get_output_embeddings().weight is not base.get_input_embeddings().weight:
                base.get_output_embeddings().requires_grad_(False)  # an encoder predicts nothing
        self.lora_layers = layers_with_adapters(base) if lora else []
        self.switch(self.adapters[ENCODER])
        self.backbones = {name: self.part(name).base_model.__call__ for name in (ENCODER, DECODER)}
        self.takes_positions = "position_ids" in inspect.signature(self.part(ENCODER).base_model.forward).parameters
        if geometry.layout != "default" and not self.takes_positions:
            raise SeedbedError(
                f"layout {geometry.layout} needs positions that can be given; {self.config.model_type!r} has none, "
                "expected layout default"
            )

    def part(self, name: str) -> PreTrainedModel:
        """The causal LM that encodes or decodes."""
        return self.encoder if name == ENCODER or self.decoder is None else self.decoder

    @property
    def head(self) -> torch.nn.Parameter:
        return self.part(DECODER).get_output_embeddings().weight

    # --- reading ------------------------------------------------------------------------------------------------------

    def compress(self, batch: Batch) -> torch.Tensor:
        """Memory [S k, d] of all segments of a batch."""
        embeddings = self.embedded(ENCODER, batch.encoder_ids)
        rows = torch.arange(self.geometry.memory_tokens, device=embeddings.device)
        tokens = self.table(rows).repeat(len(batch.memory_at) // len(rows), 1)
        hidden = self.read(ENCODER, placed(embeddings, batch.memory_at, tokens), batch.encoder_positions)
        return hidden.flatten(0, 1)[batch.memory_at]

    def decode(self, batch: Batch, memory: torch.Tensor | None, cache: Cache | None = None) -> torch.Tensor:
        """Hidden states [B, m, d] of the prompts of a batch, whose memory is None where they have no room for it."""
        embeddings = self.embedded(DECODER, batch.decoder_ids)
        if memory is not None:
            embeddings = placed(embeddings, batch.slots, memory)
        embeddings = placed(embeddings, batch.special_at, self.table(batch.special))
        return self.read(DECODER, embeddings, batch.decoder_positions, cache)

    def embedded(self, name: str, ids: torch.Tensor) -> torch.Tensor:
        return self.part(name).get_input_embeddings()(ids)

    def read(
        self, name: str, embeddings: torch.Tensor, positions: torch.Tensor, cache: Cache | None = None
    ) -> torch.Tensor:
        """Last hidden states [rows, n, d], after what is in the cache."""
        rows, length = embeddings.shape[:2]
        length += cache.get_seq_length() if cache else 0
        # Without a mask transformers would take positions that do not follow each other for several packed texts.
        options = {"attention_mask": torch.ones(rows, length, dtype=torch.int64, device=embeddings.device)}
        if self.takes_positions:
            options["position_ids"] = positions
        options |= {"past_key_values": cache, "use_cache": cache is not None}
        with self.using(self.adapters[name]):
            return self.backbones[name](inputs_embeds=embeddings, **options).last_hidden_state

    @contextmanager
    def using(self, adapter: str | None) -> Iterator[None]:
        """Compute with one adapter, or with none.

        PEFT's own switches also freeze what they switch off, and its gradients would be lost.
        """
        before = self.adapter
        self.switch(adapter)
        try:
            yield
        finally:
            self.switch(before)

    def switch(self, adapter: str | None) -> None:
        self.adapter = adapter
        for layer in self.lora_layers:
            layer._disable_adapters = adapter is None
            layer._active_adapter = [adapter]

    # --- what the engine asks of a model ------------------------------------------------------------------------------

    def gradient_checkpointing_enable(self, options: dict) -> None:
        """Compute activations again in the backward pass, with the adapter that the forward pass had."""
        for name in (ENCODER, DECODER):
            self.part(name).gradient_checkpointing_enable(options | {"context_fn": self.checkpoint_contexts})

    def checkpoint_contexts(self) -> tuple:
        return nullcontext(), self.using(self.adapter)

    def compile(self) -> None:
        """Have torch.compile make kernels of encoder and decoder."""
        self.backbones = {name: torch.compile(self.part(name).base_model) for name in (ENCODER, DECODER)}


def placed(embeddings: torch.Tensor, places: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Embeddings [B, m, d] with `rows` [n, d] at places counted through all rows."""
    flat = embeddings.flatten(0, 1).index_copy(0, places, rows.to(embeddings.dtype))
    return flat.view(embeddings.shape)


def adapt(base: PreTrainedModel, lora: dict, names: set[str]) -> None:
    """Put LoRA layers of each name into the base, which is frozen. Raises SeedbedError when it has no such targets."""
    from peft import inject_adapter_in_model

    base.requires_grad_(False)
    wanted = targets(base.config.model_type, lora["targets"])
    if problem := unknown_target(wanted, linear_layers(base), base.config.model_type):
        raise SeedbedError(problem)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # of the first of two names
            for name in sorted(names):
                inject_adapter_in_model(lora_config(base, lora), base, name)
    except ValueError as error:
        raise SeedbedError(f"lora.targets: {' '.join(str(error).split()).partition('. ')[0]}") from None
    for name, parameter in base.named_parameters():
        parameter.requires_grad_(".lora_" in name)


def lora_config(base: PreTrainedModel, lora: dict):
    """PEFT's form of a run's `lora`."""
    from peft import LoraConfig

    sizes = {"r": lora["r"], "lora_alpha": lora["alpha"], "lora_dropout": lora["dropout"]}
    return LoraConfig(task_type="CAUSAL_LM", target_modules=targets(base.config.model_type, lora["targets"]), **sizes)


def targets(model_type: str, wanted: str | list[str]) -> str | list[str]:
    """The modules that LoRA adapts; `q,v` are PEFT's own choice for a model type."""
    if wanted != "q,v":
        return wanted
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    known = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(model_type.removesuffix("_keynorm"))
    if known is None:
        raise SeedbedError(
            f"lora.targets: the q,v layers of {model_type!r} are not known; expected all-linear or a list of names"
        )
    return known


def layers_with_adapters(model: torch.nn.Module) -> list:
    from peft.tuners.lora import LoraLayer

    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def keep_frozen_in_bf16(model: torch.nn.Module) -> None:
    """Keep frozen matrices of linear layers in bf16, of which autocast would else make a copy at every use."""
    embeddings = {id(part.weight) for part in model.modules() if isinstance(part, torch.nn.Embedding)}
    for part in model.modules():
        if isinstance(part, torch.nn.Linear) and not part.weight.requires_grad and id(part.weight) not in embeddings:
            part.weight.data = part.weight.data.bfloat16()
