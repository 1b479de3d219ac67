"""Language modelling: predict the next token of packed windows."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from seedbed.architectures import architecture
from seedbed.errors import SeedbedError
from seedbed.tokens import TokenSplit, Windows


class LanguageModelling:
    """Next-token cross-entropy of a transformers causal LM, in nats.

    `spec` is the spec of a run (`seedbed.plan`), `tokens` a directory of `build_tokens`, `init` the model directory to
    start from, if any.
    """

    def __init__(self, spec: dict, tokens: Path, init: Path | None = None) -> None:
        self.spec = spec
        self.seq_len = spec["seq_len"]
        self.windows = Windows(TokenSplit(tokens, "train"), self.seq_len, spec["seed"])
        self.valid = Windows(TokenSplit(tokens, "valid"), self.seq_len, spec["seed"])
        self.model = load_model(init, self.windows.split.vocab_size) if init else self.new_model()

    def new_model(self) -> torch.nn.Module:
        from transformers import AutoConfig, AutoModelForCausalLM

        shape = architecture(self.spec["model"])
        fields = shape.to_transformers()
        positions = "n_positions" if shape.family == "gpt2" else "max_position_embeddings"
        fields = {positions: self.seq_len} | fields
        special = {"bos_token_id": None, "eos_token_id": self.windows.split.eos_id, "pad_token_id": None}
        config = AutoConfig.for_model(shape.family, vocab_size=self.windows.split.vocab_size, **special, **fields)
        return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.float32)

    @property
    def epoch_sequences(self) -> int:
        """Training sequences in one epoch."""
        return self.windows.per_epoch

    def batch(self, numbers: range) -> torch.Tensor:
        """Tokens [len(numbers), seq_len + 1] of those sequences of the training."""
        return torch.from_numpy(np.stack([self.windows.window(number) for number in numbers]))

    def loss(self, model: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
        """Mean loss of a batch [sequences, seq_len + 1]."""
        logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
        return F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())

    def validation(self) -> range:
        """Numbers of the validation windows, so many that they hold at most `validation.tokens` tokens."""
        wanted = max(1, self.spec["validation"]["tokens"] // self.seq_len)
        return range(min(self.valid.per_epoch, wanted))

    def validation_batch(self, numbers: range) -> torch.Tensor:
        """Tokens [len(numbers), seq_len + 1] of those validation windows."""
        return torch.from_numpy(np.stack([self.valid.at(number) for number in numbers]))


def load_model(folder: Path, vocab_size: int) -> torch.nn.Module:
    """The causal LM of a transformers directory, in fp32, checked against the vocabulary of the data."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    if model.config.vocab_size < vocab_size:
        raise SeedbedError(
            f"{folder}: its vocabulary of {model.config.vocab_size} is smaller than the data's, {vocab_size}"
        )
    return model


def export(model: torch.nn.Module, tokenizer: Path, folder: Path) -> None:
    """Write a transformers directory: config, weights as safetensors, tokenizer."""
    model.save_pretrained(folder)
    for file in tokenizer.iterdir():
        if file.is_file() and file.name != "stats.json":
            (folder / file.name).write_bytes(file.read_bytes())
