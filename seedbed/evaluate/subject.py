"""The model under evaluation, with its tokenizer and the tokens of its corpus."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from seedbed.errors import SeedbedError
from seedbed.tokens import TokenSplit


@dataclass
class Subject:
    """A causal LM of a transformers directory in fp32, on the GPU if there is one.

    `trained_length` is the window it was trained on, in tokens.
    """

    folder: Path
    tokens: Path
    trained_length: int

    @cached_property
    def model(self) -> PreTrainedModel:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32, attn_implementation="sdpa")
        return model.to(device).eval()

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return AutoTokenizer.from_pretrained(self.folder)

    def split(self, name: str) -> TokenSplit:
        split = TokenSplit(self.tokens, name)
        if split.vocab_size > self.model.config.vocab_size:
            own = self.model.config.vocab_size
            raise SeedbedError(
                f"{self.folder}: its vocabulary of {own} is smaller than the {split.vocab_size} of {self.tokens}"
            )
        return split

    @property
    def most_positions(self) -> int | None:
        """The longest input that the model can be given at all; None where positions are computed (RoPE)."""
        return getattr(self.model.config, "n_positions", None)

    @torch.inference_mode()
    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """Next-token logits [batch, length, vocabulary] of tokens [batch, length], padded on the right if at all."""
        return self.model(input_ids=tokens.to(self.model.device), use_cache=False).logits.float()


def right_padded(sequences: list) -> torch.Tensor:
    """Sequences of ids as one tensor [batch, longest]; causal attention never looks at the zeros behind them."""
    return torch.nn.utils.rnn.pad_sequence([torch.as_tensor(ids) for ids in sequences], batch_first=True)
