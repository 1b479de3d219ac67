"""A causal LM under evaluation, with its tokenizer and the tokens of a corpus."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoConfig,
    DynamicCache,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)
from transformers.cache_utils import DynamicLayer

from seedbed.checksums import sha256
from seedbed.data.formats import INDEX
from seedbed.data.tokens import TokenSplit
from seedbed.errors import SeedbedError
from seedbed.models import recurrence
from seedbed.models.causal_lm import BATCH_TOKENS, PRECISIONS, in_a_line, load_model
from seedbed.models.external import load_tokenizer
from seedbed.models.families import learned_positions
from seedbed.models.foreign import WANTED, check_directory
from seedbed.models.recurrence import SegmentCache
from seedbed.runs import ADOPTED, MODEL, provenance

UNSTATED_LENGTH = 2048  # tokens; for a model whose config does not state how long its inputs may be


@dataclass(frozen=True)
class Prefix:
    """Cached keys and values of the first `length` tokens of an input; any number of inputs may continue it."""

    length: int = 0
    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...] = ()  # keys and values [1, heads, cached, head_dim] each

    def repeated(self, batch: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values [batch, heads, cached, head_dim] of every layer; views, which take no memory."""
        return [(keys.expand(batch, -1, -1, -1), values.expand(batch, -1, -1, -1)) for keys, values in self.layers]

    def cache(self, batch: int) -> DynamicCache:
        """A cache of transformers that `batch` rows continue."""
        cache = DynamicCache()
        for keys, values in self.repeated(batch):
            layer = DynamicLayer()
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys, values  # not by `update`, which would copy them for every row
            cache.layers.append(layer)
        return cache


@dataclass
class CausalLM:
    """A causal LM of a transformers directory, on the GPU if there is one.

    `trained_length` is the window it was trained on, in tokens; `tokens` a directory of `build_tokens`, which some
    evaluations need; `batch_tokens` the tokens of a batch, 0 for what suits the device; `precision` that of the
    weights, "fp32" or "bf16".
    """

    folder: Path
    tokens: Path | None
    trained_length: int
    batch_tokens: int = 0
    precision: str = "fp32"

    @classmethod
    def of_run(cls, run: Path, tokens: Path | None = None, **options: object) -> "CausalLM":
        """The model of a finished run's directory."""
        return cls(run / MODEL, tokens, provenance(run)["spec"]["seq_len"], **options)

    @classmethod
    def of_model(cls, folder: Path, tokens: Path | None = None, **options: object) -> "CausalLM":
        """The model of a transformers directory; `trained_length` is the input length that its config states."""
        if not (folder / "config.json").exists():
            raise SeedbedError(f"{folder}: has no config.json; expected a transformers directory")
        check_directory(folder)
        with in_a_line(f"{folder}: config.json"):
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False).get_text_config()
        stated = getattr(config, "max_position_embeddings", None)
        return cls(folder, tokens, stated or UNSTATED_LENGTH, **options)

    @cached_property
    def model(self) -> PreTrainedModel:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = load_model(self.folder, dtype=PRECISIONS[self.precision])
        if getattr(model.config, "recurrence", None):
            recurrence.prepare(model)
        return model.to(device).eval()

    @property
    def memory(self) -> dict | None:
        """`work_size` and `cache_size` of a model that was trained with segment recurrence; None for others."""
        return getattr(self.model.config, "recurrence", None)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(str(self.folder), str(self.folder), self.folder)

    # --- identity -----------------------------------------------------------------------------------------------------

    def identity(self) -> dict:
        """Path and checksums of the files that determine what the model computes."""
        files = sorted(path for pattern in WANTED for path in self.folder.glob(pattern))
        files = [path for path in files if path.name != ADOPTED]
        return {"path": str(self.folder), "sha256": {path.name: sha256(path) for path in files}}

    def data_identity(self) -> dict | None:
        """Path and checksum of the index of its tokens, which holds the checksums of their files."""
        return self.tokens and {"path": str(self.tokens), "sha256": sha256(self.tokens / INDEX)}

    def split(self, name: str) -> TokenSplit:
        if not self.tokens:
            raise SeedbedError(f"{self.folder}: no tokens to measure it on; expected a directory with index.json")
        split = TokenSplit(self.tokens, name)
        own = self.model.config.get_text_config().vocab_size
        if split.vocab_size > own:
            raise SeedbedError(
                f"{self.folder}: its vocabulary of {own} is smaller than the {split.vocab_size} of {self.tokens}"
            )
        return split

    @cached_property
    def begin(self) -> dict:
        """The token that a text begins with: its `id`, its `token`, and its role `is` ("bos" or "eos").

        It is the tokenizer's BOS. Without one, or where the model's config says that it was trained without, it is EOS,
        which ends the preceding text. Raises SeedbedError when there is neither.
        """
        tokenizer, trained_without = self.tokenizer, self.model.config.get_text_config().bos_token_id is None
        for name, token in (
            ("bos", None if trained_without else tokenizer.bos_token_id),
            ("eos", tokenizer.eos_token_id),
            ("bos", tokenizer.bos_token_id),
        ):
            if token is not None:
                return {"id": token, "token": tokenizer.convert_ids_to_tokens(token), "is": name}
        raise SeedbedError(f"{self.folder}: its tokenizer has neither a BOS nor an EOS token to begin a text with")

    @property
    def most_positions(self) -> int | None:
        """The longest input that the model can take, in tokens; None where positions are computed (RoPE, ALiBi)."""
        return learned_positions(self.model.config.get_text_config())

    # --- reading ------------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def read(self, ids: list[int]) -> Prefix:
        """Run the model once on what several inputs begin with.

        The prefix may be shorter than `ids`: recurrent models stop at the end of a segment, and models that do not
        cache the keys and values of all tokens return an empty one.
        """
        if self.memory:
            ids = ids[: len(ids) - len(ids) % self.memory["work_size"]]
        if not ids:
            return Prefix()
        inputs = self.fed(torch.tensor([ids]))
        if self.memory:
            cache = SegmentCache(self.memory["cache_size"])
            for segment in inputs.split(self.memory["work_size"], dim=1):
                recurrence.hidden_states(self.model, segment, cache)
            return Prefix(len(ids), tuple(cache.layers))
        cache = getattr(self.model.base_model(input_ids=inputs, use_cache=True), "past_key_values", None)
        if not isinstance(cache, DynamicCache) or any(type(layer) is not DynamicLayer for layer in cache.layers):
            return Prefix()
        return Prefix(len(ids), tuple((layer.keys, layer.values) for layer in cache.layers))

    @torch.inference_mode()
    def logits(self, tokens: torch.Tensor, at: torch.Tensor | None = None, after: Prefix | None = None) -> torch.Tensor:
        """Next-token logits [batch, n, vocabulary] in fp32 of tokens [batch, length], padded on the right if at all.

        `at` [batch, n] are the positions in `tokens` to return them for, all by default; every row continues the prefix
        `after`. A recurrent model runs with the segments and the cache size that it was trained with.
        """
        ids, after = self.fed(tokens), after or Prefix()
        at = at if at is None else at.to(ids.device)
        if self.memory:
            cache = SegmentCache(self.memory["cache_size"])
            cache.layers = after.repeated(len(ids))
            return recurrence.logits(self.model, ids, self.memory["work_size"], cache, at).float()
        past = after.cache(len(ids)) if after.length else None
        options = {"past_key_values": past, "use_cache": past is not None}
        if at is not None and self.picks_positions:
            return self.model(input_ids=ids, logits_to_keep=at, **options).logits.float()
        logits = self.model(input_ids=ids, **options).logits.float()
        return logits if at is None else logits.take_along_dim(at[..., None], dim=1)

    def at_once(self, length: int) -> int:
        """Batch size for inputs of `length` tokens."""
        return max(1, (self.batch_tokens or BATCH_TOKENS[self.model.device.type]) // length)

    def fed(self, ids: torch.Tensor) -> torch.Tensor:
        """Ids on the model's device; raises SeedbedError for one outside its vocabulary."""
        own = self.model.config.get_text_config().vocab_size
        if (largest := int(ids.max())) >= own:
            raise SeedbedError(f"{self.folder}: found the id {largest} in an input, beyond its vocabulary of {own}")
        return ids.to(self.model.device)

    @cached_property
    def picks_positions(self) -> bool:
        """Whether the model can compute logits at chosen positions only."""
        return "logits_to_keep" in inspect.signature(self.model.forward).parameters

    @torch.inference_mode()
    def continuation(self, ids: list[int], most: int, decoding: str | dict = "greedy") -> list[int]:
        """Generate up to `most` tokens that follow `ids`; end of sequence, if generated, is the last.

        `decoding` is "greedy", or the `temperature`, `top_p` and `seed` to sample with. Samples depend on the seed and
        `ids` only; the caller's random state is left unchanged.
        """
        inputs = self.fed(torch.tensor([ids]))
        end, sampling = self.tokenizer.eos_token_id, None if decoding == "greedy" else decoding
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            if sampling:
                torch.manual_seed(int(np.random.SeedSequence([sampling["seed"], *ids]).generate_state(1)[0]))
            if self.memory:
                return recurrence.continued(self.model, inputs, most, end, chooser(sampling), **self.memory)
            settings = {"max_new_tokens": most, "eos_token_id": end, "pad_token_id": end, "do_sample": bool(sampling)}
            if sampling:
                settings |= {"temperature": sampling["temperature"], "top_p": sampling["top_p"], "top_k": 0}
            # The model's own would fill in whatever is not set: penalties, suppressed tokens, other EOS tokens.
            self.model.generation_config = GenerationConfig(**settings)
            output = self.model.generate(inputs, self.model.generation_config, attention_mask=torch.ones_like(inputs))
        return output[0, len(ids) :].tolist()


def chooser(sampling: dict | None) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from logits [1, vocabulary] to the next token [1, 1]: the most likely one, or a sample.

    Samples are drawn from softmax(logits / temperature) over the nucleus, the fewest tokens that hold `top_p` of the
    probability (Holtzman et al. 2020, arXiv 1904.09751), as in transformers' `generate`.
    """
    if not sampling:
        return lambda logits: logits.argmax(-1, keepdim=True)
    temperature, nucleus = TemperatureLogitsWarper(sampling["temperature"]), TopPLogitsWarper(sampling["top_p"])
    return lambda logits: nucleus(None, temperature(None, logits)).softmax(-1).multinomial(1)


def right_padded(sequences: list) -> torch.Tensor:
    """Sequences of ids as one tensor [batch, longest]; causal attention never looks at the zeros behind them."""
    return torch.nn.utils.rnn.pad_sequence([torch.as_tensor(ids) for ids in sequences], batch_first=True)
