"""In-context autoencoding: reconstruct a context from the memory that it was compressed into, or continue it."""

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from seedbed.checksums import model_checksums
from seedbed.data.contexts import Contexts
from seedbed.data.tokenizer import check_loads
from seedbed.data.tokens import mixed
from seedbed.errors import SeedbedError
from seedbed.models.causal_lm import copy_tokenizer, load_model, new_model
from seedbed.models.cross_entropy import linear_cross_entropy, linear_scores
from seedbed.models.families import learned_positions
from seedbed.models.predictions import check_predictions
from seedbed.objectives.contract import Card, Sizes
from seedbed.objectives.icae.batch import Batch, Sample, batch_of
from seedbed.objectives.icae.exported import ICAE, Exported
from seedbed.objectives.icae.geometry import AE, LM, Geometry
from seedbed.objectives.icae.model import DECODER, ENCODER, Icae, keep_frozen_in_bf16, lora_config
from seedbed.records import write_record

HOW = """
```python
from seedbed.objectives.icae import load

icae = load("<this directory>")
memory = icae.compress("some text")
print(icae.reconstruct(memory))
```
"""


class Autoencoding(torch.nn.Module):
    """Mean loss of the samples of a batch, in nats per token; all samples weigh the same."""

    def __init__(self, model: Icae) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, scored: bool = False) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """The loss, or `scores` of each sample."""
        memory = self.model.compress(batch)
        if scored:
            return self.scores(batch, memory)
        hidden, head = self.predicting(batch, memory)
        return linear_cross_entropy(hidden, head, batch.targets, batch.share)

    def predicting(self, batch: Batch, memory: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """The hidden states [N, d] that the targets are predicted from, and the output head."""
        return self.model.decode(batch, memory).flatten(0, 1)[batch.predicted_from], self.model.head

    @torch.no_grad()
    def scores(self, batch: Batch, memory: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and token accuracy of each sample, fp32 [B]; `memory` is None for prompts without memory."""
        scores = torch.stack(linear_scores(*self.predicting(batch, memory), batch.targets))
        sums = torch.zeros(2, len(batch), device=scores.device).index_add_(1, batch.sample, scores)
        loss, accuracy = sums / torch.bincount(batch.sample, minlength=len(batch))
        return loss, accuracy


class InContextAutoencoding:
    """The model, the batches and the loss of one run (`seedbed.objectives.contract.Objective`).

    `inputs` are `tokens`, the index of a directory of `build_contexts`, `tokenizer`, and `init`, the directory of the
    base unless that is a new one. A sample is a context with the task to do from its memory.
    """

    losses_per_batch = 1
    reads_ahead = True

    def __init__(self, spec: dict, inputs: dict[str, Path]) -> None:
        self.spec, self.inputs = spec, inputs
        check_loads(inputs["tokenizer"].parent)
        data, lengths = inputs["tokens"].parent, (spec["seq_len"], spec["continuation"])
        self.train, self.held_out = (Contexts(data, split, *lengths, spec["seed"]) for split in ("train", "held_out"))
        self.geometry = Geometry.of(spec)
        base = self.base()
        self.check_positions(base)
        check_predictions(base)
        self.loss_module = Autoencoding(Icae(base, self.geometry, spec["lora"], spec["decoder"]))

    @property
    def model(self) -> Icae:
        """The model that is trained."""
        return self.loss_module.model

    def base(self) -> torch.nn.Module:
        vocabulary, attention = self.train.vocab_size, self.spec["attention"]
        if "init" in self.inputs:
            return load_model(self.inputs["init"], attention, least_vocabulary=vocabulary)
        needed = int(self.geometry.highest_position(*self.longest)) + 1
        return new_model(self.spec["model"], vocabulary, self.train.eos_id, needed, attention)

    @property
    def longest(self) -> tuple[int, int]:
        """Tokens of the longest context and of its continuation."""
        return self.spec["seq_len"], self.spec["continuation"]

    def check_positions(self, base: torch.nn.Module) -> None:
        """Raise SeedbedError where the layout needs positions that the base has not learned."""
        config = base.config.get_text_config()
        learned = learned_positions(config)
        if learned and (problem := self.geometry.misfit(config.model_type, *self.longest, learned)):
            raise SeedbedError(problem)

    def sizes(self) -> Sizes:
        config = self.model.config
        return Sizes.of(self.model, config.num_hidden_layers, config.hidden_size, self.spec["seq_len"])

    def prepare(self, precision: str) -> None:
        """Prepare for training in `fp32` or `bf16`."""
        if precision == "bf16":
            keep_frozen_in_bf16(self.model)

    def compile(self) -> None:
        self.model.compile()

    def checkpoint_activations(self) -> None:
        self.model.gradient_checkpointing_enable({"use_reentrant": False})

    # --- batches ------------------------------------------------------------------------------------------------------

    @property
    def epoch_samples(self) -> int:
        """Samples in one epoch."""
        return self.train.per_epoch

    def batch(self, numbers: range) -> Batch:
        """The training samples with these numbers."""
        return batch_of(self.geometry, [self.sample(number) for number in numbers])

    def sample(self, number: int) -> Sample:
        """A context, whose length and task its number draws."""
        length, chance = self.drawn(number)
        return self.cut(self.train.window(number), length, LM if chance < self.spec["lm_ratio"] else AE)

    def cut(self, window: np.ndarray, length: int, task: str = AE) -> Sample:
        """A sample from the ids of a context and what follows it."""
        context = window[:length]
        if task == LM:
            return Sample(LM, context, window[length : length + self.spec["continuation"]])
        return Sample(AE, context, np.append(context, self.train.eos_id))

    def drawn(self, number: int) -> tuple[int, float]:
        """Length of a context in tokens, and a number in [0, 1), from the seed and the number of the sample alone."""
        bits = mixed(mixed(self.spec["seed"]) ^ number)
        least = self.spec["min_seq_len"] or self.spec["seq_len"]
        return least + (bits >> 32) % (self.spec["seq_len"] - least + 1), (bits & 0xFFFFFFFF) / 2**32

    def largest_batch(self, size: int) -> Batch:
        """A batch of `size` samples that takes as much memory as any other."""
        task = AE if self.spec["seq_len"] >= self.spec["continuation"] else LM
        sample = self.cut(np.zeros(sum(self.longest), np.int64), self.spec["seq_len"], task)
        return batch_of(self.geometry, [sample] * size)

    def validation_numbers(self) -> range:
        """Numbers of the held-out contexts to validate on: as many as `validation.tokens` holds, at least one."""
        wanted = max(1, self.spec["validation"]["tokens"] // self.spec["seq_len"])
        return range(min(self.held_out.per_epoch, wanted))

    def validation_batch(self, numbers: range) -> Batch:
        """The held-out contexts with these numbers, to be reconstructed."""
        return batch_of(self.geometry, [self.cut(self.held_out.at(number), self.spec["seq_len"]) for number in numbers])

    # --- losses -------------------------------------------------------------------------------------------------------

    def losses(self, model: torch.nn.Module, batch: Batch, _numbers: range) -> Iterator[torch.Tensor]:
        """The mean loss of a micro-batch."""
        yield model(batch)

    def step_done(self) -> None:
        """Nothing is learned but weights."""

    @torch.no_grad()
    def validate(self, model: torch.nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Means over the samples of a batch: loss in nats per token, and token accuracy."""
        loss, accuracy = model(batch, scored=True)
        return {"loss": loss.mean(), "accuracy": accuracy.mean()}

    def diagnostics(self) -> dict[str, torch.Tensor]:
        return {}

    # --- state --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {}

    def load_state_dict(self, _state: dict, _micro_batches: list[range], _device: torch.device) -> None:
        """Do nothing: samples are independent of each other."""

    # --- what a finished run leaves -----------------------------------------------------------------------------------

    def export(self, folder: Path, published: Path, weights: dict[str, torch.Tensor]) -> None:
        """Write what `load` reads; `weights` are the trained ones by name, `published` where the folder will end up.

        `icae.json` describes the rest: memory.safetensors has the embedding table; with LoRA, there is an adapter in
        PEFT's format for the encoder (and the decoder, if it has one), else a transformers directory for each that was
        trained.
        """
        weights = {name.removeprefix("model."): weight.contiguous() for name, weight in weights.items()}
        folder.mkdir(parents=True)
        save_file({"table": weights["table.weight"]}, folder / "memory.safetensors")
        kept = {}
        for name in (ENCODER, DECODER):
            if self.spec["lora"]:
                adapter = self.model.adapters[name]
                if adapter == name:
                    self.export_adapter(folder / name, adapter, weights)
                kept[name] = adapter
            elif name == ENCODER or self.spec["decoder"] == "trained":
                own = {key.removeprefix(f"{name}."): w for key, w in weights.items() if key.startswith(f"{name}.")}
                self.export_part(folder / name, name, own)
                kept[name] = name
            else:
                kept[name] = ENCODER if self.spec["decoder"] == "shared" else None
        base = None
        if "init" in self.inputs:  # without symbolic links, as `find_base` resolves it
            init = self.inputs["init"]
            path = os.path.relpath(init.resolve(), published.resolve())
            base = {"path": path, "sha256": model_checksums(init)}
        facts = {
            key: self.spec[key]
            for key in (*asdict(self.geometry), "lora", "decoder", "seq_len", "lm_ratio", "continuation")
        }
        write_record(folder / ICAE, Exported, {"base": base, "kept": kept, **facts})
        copy_tokenizer(self.inputs["tokenizer"].parent, folder)

    def export_adapter(self, folder: Path, adapter: str, weights: dict[str, torch.Tensor]) -> None:
        """Write an adapter as `PeftModel.from_pretrained` reads it, without its name in the keys."""
        folder.mkdir()
        ending = f".{adapter}.weight"
        own = {key: weight for key, weight in weights.items() if ".lora_" in key and key.endswith(ending)}
        named = {f"base_model.model.{key[len(ENCODER) + 1 : -len(ending)]}.weight": own[key] for key in own}
        save_file(named, folder / "adapter_model.safetensors")
        config = lora_config(self.model.encoder, self.spec["lora"])
        config.inference_mode, config.base_model_name_or_path = True, str(self.inputs["init"])
        config.save_pretrained(folder)

    def export_part(self, folder: Path, name: str, weights: dict[str, torch.Tensor]) -> None:
        """Write the encoder or decoder as a transformers directory."""
        part = self.model.part(name)
        frozen = [key for key, _ in part.named_parameters() if key not in weights]
        if frozen:  # unchanged by training; under ZeRO 3 this rank holds only a shard of it
            known = self.base().state_dict()
            weights = weights | {key: known[key] for key in frozen}
        part.save_pretrained(folder, state_dict=weights)

    def card(self) -> Card:
        return Card(
            metadata="library_name: peft" if self.spec["lora"] else "library_name: transformers",
            what=f"An in-context autoencoder: {self.geometry.memory_tokens} memory vectors for a context. A model",
            trained_on=f"{self.train.split.documents:,} documents",
            how=HOW,
            loss_unit="nats per token",
        )

    def provenance(self) -> dict:
        return {"attention": self.model.config._attn_implementation}
