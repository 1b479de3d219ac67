"""The model under evaluation, with its tokenizer and the tokens of its corpus."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from seedbed.errors import SeedbedError
from seedbed.models import recurrence
from seedbed.objectives.lm import load_model
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
        model = load_model(self.folder)
        if getattr(model.config, "recurrence", None):
            recurrence.prepare(model)
        return model.to(device).eval()

    @property
    def memory(self) -> dict | None:
        """`work_size` and `cache_size` of a model that was trained with segment recurrence."""
        return getattr(self.model.config, "recurrence", None)

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
        """Next-token logits [batch, length, vocabulary] of tokens [batch, length], padded on the right if at all.

        A recurrent model reads them in the segments and with the cache that it was trained with.
        """
        ids = tokens.to(self.model.device)
        if self.memory:
            return recurrence.logits(self.model, ids, **self.memory).float()
        return self.model(input_ids=ids, use_cache=False).logits.float()

    @torch.inference_mode()
    def greedy(self, ids: list[int], most: int) -> list[int]:
        """The `most` tokens that follow by taking the most likely one each time, at most up to end of sequence."""
        inputs = torch.tensor([ids], device=self.model.device)
        end = self.tokenizer.eos_token_id
        if self.memory:
            return recurrence.greedy(self.model, inputs, most, end, **self.memory)
        settings = {"do_sample": False, "max_new_tokens": most, "pad_token_id": end}
        return self.model.generate(inputs, attention_mask=torch.ones_like(inputs), **settings)[0, len(ids) :].tolist()


def right_padded(sequences: list) -> torch.Tensor:
    """Sequences of ids as one tensor [batch, longest]; causal attention never looks at the zeros behind them."""
    return torch.nn.utils.rnn.pad_sequence([torch.as_tensor(ids) for ids in sequences], batch_first=True)
