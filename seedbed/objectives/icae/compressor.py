"""An exported ICAE in use: text to memory, and memory back to text."""

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedTokenizerBase

from seedbed.checksums import model_checksums
from seedbed.errors import SeedbedError, shown
from seedbed.files import read_tensors
from seedbed.models.external import load_tokenizer
from seedbed.objectives.icae.batch import Sample, batch_of
from seedbed.objectives.icae.exported import ICAE, Exported
from seedbed.objectives.icae.geometry import AE, Geometry
from seedbed.objectives.icae.model import DECODER, ENCODER, Icae
from seedbed.records import read_record
from seedbed.runs import verify_model


class Compressor:
    """The ICAE of a directory that `InContextAutoencoding.export` wrote, on the GPU if there is one.

    `base` is the directory of its base model, if that has moved; `dtype` that of its weights. Raises SeedbedError when
    it needs a base (with LoRA, or for a frozen decoder) that is missing, or another one.
    """

    def __init__(self, folder: Path, base: Path | None = None, dtype: torch.dtype = torch.float32) -> None:
        from seedbed.models.causal_lm import load_model

        verify_model(folder)
        self.folder, self.facts = folder, read_record(folder / ICAE, Exported)
        self.geometry, kept = Geometry.of(self.facts), self.facts["kept"]

        def part(name: str) -> torch.nn.Module:
            whole = kept[name] == name and not self.facts["lora"]
            return load_model(folder / name if whole else self.find_base(base), dtype=dtype)

        copied = not self.facts["lora"] and self.facts["decoder"] != "shared"
        other = part(DECODER) if copied else None
        self.model = Icae(part(ENCODER), self.geometry, self.facts["lora"], self.facts["decoder"], other)
        table = folder / "memory.safetensors"
        self.model.table.weight.data = taken(read_tensors(table), "table", self.model.table.weight, table)
        for name in {adapter for adapter in self.model.adapters.values() if adapter}:
            load_adapter(self.model.encoder, name, folder / name / "adapter_model.safetensors")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model.to(device, dtype).requires_grad_(False).eval()

    def find_base(self, given: Path | None) -> Path:
        """Directory of the base model: the one given, or where it was in training."""
        known = self.facts["base"]
        if known is None:
            raise SeedbedError(f"{self.folder / ICAE}: base: found null; expected that of its adapters or its decoder")
        found = given or (self.folder / known["path"]).resolve()
        if not found.is_dir():
            raise SeedbedError(f"{self.folder}: its base model is not at {found}; pass its directory as `base`")
        verify_model(found)
        if model_checksums(found) != known["sha256"]:
            raise SeedbedError(f"{self.folder}: {found} is another base than it was trained on")
        return found

    @property
    def device(self) -> torch.device:
        return self.model.table.weight.device

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(str(self.folder), str(self.folder), self.folder)

    @property
    def end(self) -> int:
        """The id of the token that ends a reconstruction."""
        if (end := self.tokenizer.eos_token_id) is None:
            raise SeedbedError(f"{self.folder}: its tokenizer has no EOS, which ends a reconstruction")
        return end

    @torch.inference_mode()
    def compress(self, text: str) -> torch.Tensor:
        """Memory [k, d] of a text, equally many vectors per segment; its `length` is that of the text in tokens.

        Raises SeedbedError when the text has fewer tokens than its memory would have vectors.
        """
        ids = np.asarray(self.tokenizer(text, add_special_tokens=False).input_ids, np.int64)
        if len(ids) < self.geometry.memory_tokens:
            raise SeedbedError(
                f"a text of {len(ids)} tokens is shorter than its memory of {self.geometry.memory_tokens} vectors"
            )
        memory = self.model.compress(batch_of(self.geometry, [self.asked(ids)]).to(self.device))
        memory.length = len(ids)
        return memory

    def reconstruct(self, memory: torch.Tensor, length: int | None = None) -> str:
        """The text that a memory [k, d] holds, decoded greedily.

        `length` is that of the original in tokens, which positions depend on in layouts other than `default`; a tensor
        from `compress` carries it.
        """
        length = length or getattr(memory, "length", len(memory) * self.geometry.rate)
        return self.tokenizer.decode(self.reconstructed(memory[None].to(self.device), length)[0])

    @torch.inference_mode()
    def reconstructed(self, memory: torch.Tensor, length: int, geometry: Geometry | None = None) -> list[list[int]]:
        """Ids decoded from memories [B, k, d] of contexts of one length: up to EOS, at most `length`."""
        batch = batch_of(geometry or self.geometry, [self.asked(np.zeros(length, np.int64))] * len(memory)).to(
            self.device
        )
        expected = len(batch.slots) // len(memory)
        if memory.shape[1] != expected:
            raise SeedbedError(f"a memory of {memory.shape[1]} vectors; a text of {length} tokens has {expected}")
        cache, generated = DynamicCache(), []
        hidden = self.model.decode(batch, memory.flatten(0, 1), cache)
        position = batch.decoder_positions[:, -1:]
        ended = torch.zeros(len(memory), dtype=torch.bool, device=self.device)
        for _ in range(length):
            ids = (hidden[:, -1] @ self.model.head.T).argmax(-1)
            ended |= ids == self.end
            generated.append(ids.masked_fill(ended, self.end))
            if ended.all():
                break
            position = position + 1
            hidden = self.model.read(DECODER, self.model.embedded(DECODER, ids[:, None]), position, cache)
        rows = torch.stack(generated, 1).tolist()
        return [row[: row.index(self.end)] if self.end in row else row for row in rows]

    def asked(self, ids: np.ndarray) -> Sample:
        """A context to reconstruct, with nothing decoded yet."""
        return Sample(AE, ids, np.array([self.end]))


def load_adapter(base: torch.nn.Module, name: str, file: Path) -> None:
    """Load the weights of a file in PEFT's format into the LoRA layers of a name."""
    weights = read_tensors(file)
    for key, parameter in base.named_parameters():
        if ".lora_" in key and key.endswith(f".{name}.weight"):
            stored = f"base_model.model.{key.removesuffix(f'.{name}.weight')}.weight"
            parameter.data = taken(weights, stored, parameter, file)


def taken(weights: dict[str, torch.Tensor], name: str, parameter: torch.nn.Parameter, file: Path) -> torch.Tensor:
    """The tensor of that name in a file; raises SeedbedError where it does not fit the parameter."""
    found, expected = weights.get(name), list(parameter.shape)
    if found is None or list(found.shape) != expected or not found.is_floating_point():
        told = "no such tensor" if found is None else f"{found.dtype} {list(found.shape)}"
        raise SeedbedError(f"{file}: {shown(name)}: found {told}; expected weights {expected}")
    return found
