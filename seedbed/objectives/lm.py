"""Language modelling: predict the next token of packed windows."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from seedbed.architectures import architecture
from seedbed.errors import SeedbedError
from seedbed.models import keynorm, recurrence
from seedbed.models.attention import backend
from seedbed.models.recurrence import SegmentCache
from seedbed.objectives.cross_entropy import linear_cross_entropy
from seedbed.tokens import Streams, TokenSplit, Windows


class NextToken(torch.nn.Module):
    """Mean next-token loss of a transformers causal LM, in nats."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model
        self.backbone = model.base_model.__call__  # what torch.compile may replace

    @property
    def head(self) -> torch.nn.Parameter:
        return self.model.get_output_embeddings().weight

    def forward(self, tokens: torch.Tensor, cache: SegmentCache | None = None) -> torch.Tensor:
        """Loss of windows [sequences, length + 1], after what is in the cache."""
        hidden = self.backbone(input_ids=tokens[:, :-1], past_key_values=cache, use_cache=cache is not None)
        return linear_cross_entropy(hidden.last_hidden_state, self.head, tokens[:, 1:])


class LanguageModelling:
    """The model, the batches and the loss of one run.

    `spec` is the spec of a run (`seedbed.plan`), `tokens` a directory of `build_tokens`, `init` the model directory to
    start from, if any. A sequence is known by its number in the whole training.
    """

    def __init__(self, spec: dict, tokens: Path, init: Path | None = None) -> None:
        self.spec = spec
        self.seq_len = spec["seq_len"]
        train, valid = TokenSplit(tokens, "train"), TokenSplit(tokens, "valid")
        self.vocab_size, self.eos_id = train.vocab_size, train.eos_id
        self.valid = Windows(valid, self.seq_len, spec["seed"])
        rows = spec["batch_tokens"] // self.seq_len
        in_order = spec["data"] == "order"
        self.train = Streams(train, self.seq_len, rows) if in_order else Windows(train, self.seq_len, spec["seed"])
        # Of rows that read on, by the first row of their micro-batch; and the sequence that it goes on with.
        self.caches: dict[int, SegmentCache] = {}
        self.following: dict[int, int] = {}
        self.loss_module = NextToken(self.base(init))
        self.model.config.recurrence = None  # what evaluations read the model with
        if self.recurrent:
            recurrence.prepare(self.model)
            self.model.config.recurrence = {key: self.recurrent[key] for key in ("work_size", "cache_size")}

    @property
    def model(self) -> torch.nn.Module:
        """The transformers model that is trained."""
        return self.loss_module.model

    def base(self, init: Path | None) -> torch.nn.Module:
        if init:
            return load_model(init, backend(self.spec["attention"]), least_vocabulary=self.vocab_size)
        return new_model(self.spec["model"], self.vocab_size, self.eos_id, self.seq_len, self.spec["attention"])

    def settle(self, precision: str) -> None:
        """Nothing hangs on the precision but how products are computed."""

    def compile(self) -> None:
        """Have torch.compile make kernels of the model; the loss and recurrence stay as they are."""
        self.loss_module.backbone = torch.compile(self.model.base_model)

    # --- batches ------------------------------------------------------------------------------------------------------

    @property
    def epoch_sequences(self) -> int:
        """Training sequences in one epoch."""
        return self.train.per_epoch

    def batch(self, numbers: range) -> torch.Tensor:
        """Tokens [len(numbers), seq_len + 1] of those sequences of the training."""
        return self.checked(np.stack([self.train.window(number) for number in numbers]))

    def largest_batch(self, size: int) -> torch.Tensor:
        """A batch that takes as much memory as any of so many sequences."""
        return torch.zeros(size, self.seq_len + 1, dtype=torch.int64)

    def validation(self) -> range:
        """Numbers of the validation windows, so many that they hold at most `validation.tokens` tokens."""
        wanted = max(1, self.spec["validation"]["tokens"] // self.seq_len)
        return range(min(self.valid.per_epoch, wanted))

    def validation_batch(self, numbers: range) -> torch.Tensor:
        """Tokens [len(numbers), seq_len + 1] of those validation windows."""
        return self.checked(np.stack([self.valid.at(number) for number in numbers]))

    def checked(self, tokens: np.ndarray) -> torch.Tensor:
        if (largest := int(tokens.max())) >= self.vocab_size:
            raise SeedbedError(
                f"{self.valid.split.folder}: damaged tokens: found the id {largest}, "
                f"expected less than the vocabulary, {self.vocab_size}"
            )
        return torch.from_numpy(tokens)

    # --- losses -------------------------------------------------------------------------------------------------------

    @property
    def recurrent(self) -> dict | None:
        return self.spec["recurrence"]

    @property
    def parts(self) -> int:
        """Backward passes that a micro-batch takes, each over the mean loss of an equal share of its tokens."""
        if not self.recurrent:
            return 1
        return self.seq_len // (self.recurrent["work_size"] * self.recurrent["stop_gradient_step"])

    def losses(self, model: torch.nn.Module, tokens: torch.Tensor, numbers: range) -> Iterator[torch.Tensor]:
        """Mean losses of the parts of a micro-batch [sequences, seq_len + 1]; backward may follow each."""
        if not self.recurrent:
            yield model(tokens)
            return
        cache = self.cache_for(numbers)
        group = []
        for segment in self.segments(tokens):
            group.append(model(segment, cache))
            if len(group) == self.recurrent["stop_gradient_step"]:
                cache.detach()
                yield torch.stack(group).mean()
                group = []

    def segments(self, tokens: torch.Tensor) -> list[torch.Tensor]:
        """Pieces [sequences, work_size + 1] of windows [sequences, seq_len + 1], overlapping by one token."""
        size = self.recurrent["work_size"]
        return [tokens[:, start : start + size + 1] for start in range(0, self.seq_len, size)]

    def cache_for(self, numbers: range) -> SegmentCache:
        """An empty cache, or in ordered data the one that these rows had in the batch before."""
        if self.spec["data"] == "shuffle":
            return SegmentCache(self.recurrent["cache_size"])
        row = self.train.row(numbers[0])
        if self.following.get(row) != numbers[0] or self.train.starts(numbers[0]):
            self.caches[row] = SegmentCache(self.recurrent["cache_size"])
        self.following[row] = numbers[0] + self.train.rows
        return self.caches[row]

    @torch.no_grad()
    def evaluation(self, model: torch.nn.Module, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        """Mean loss of windows [sequences, seq_len + 1], every window by itself."""
        if not self.recurrent:
            return {"loss": model(tokens)}
        cache = SegmentCache(self.recurrent["cache_size"])
        return {"loss": torch.stack([model(segment, cache) for segment in self.segments(tokens)]).mean()}

    def diagnostics(self) -> dict[str, torch.Tensor]:
        """Figures of the last forward pass that metrics tell beside the loss."""
        norm = keynorm.mean_key_norm(self.model)
        return {} if norm is None else {"key_norm": norm}

    # --- what a checkpoint holds besides weights ----------------------------------------------------------------------

    def state(self) -> dict[int, torch.Tensor]:
        """What the rows of this rank remember, by row: [layers, 2, kv_heads, length, head_dim] each."""
        rows = {}
        for first, cache in self.caches.items():
            if (state := cache.state()) is not None:
                rows |= {first + index: state[:, :, index].cpu() for index in range(state.shape[2])}
        return rows

    def load_state(self, rows: dict[int, torch.Tensor], micro_batches: list[range], device: torch.device) -> None:
        """Take up what the rows remembered that go on with these micro-batches."""
        self.caches, self.following = {}, {}
        for numbers in micro_batches if rows else []:
            first = self.train.row(numbers[0])
            cached = torch.stack([rows[self.train.row(number)] for number in numbers], 2).to(device)
            self.caches[first] = SegmentCache.of(self.recurrent["cache_size"], cached)
            self.following[first] = numbers[0]

    # --- what a finished run leaves -----------------------------------------------------------------------------------

    def export(self, folder: Path, _published: Path, tokenizer: Path, weights: dict[str, torch.Tensor]) -> None:
        """Write a transformers directory with these weights."""
        export(self.model, tokenizer, folder, {name.removeprefix("model."): w for name, w in weights.items()})

    def card(self) -> dict[str, str]:
        """What a reader of the export has to know."""
        how = "\nIts keys are normalised: `import seedbed.models.keynorm` before `from_pretrained`.\n"
        return {
            "metadata": "library_name: transformers\npipeline_tag: text-generation",
            "what": f"A {self.spec['model']['family']} language model",
            "how": how if self.spec["model"]["key_norm"] else "",
        }


def new_model(fields: dict, vocabulary: int, eos: int, positions: int, attention: str) -> torch.nn.Module:
    """An untrained causal LM of a model's fields; `positions` is what it has room for where they do not say."""
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = architecture(fields)
    own = {shape.positions_field: positions} | shape.to_transformers()
    special = {"bos_token_id": None, "eos_token_id": eos, "pad_token_id": None}
    config, chosen = AutoConfig.for_model(shape.model_type, vocab_size=vocabulary, **special, **own), backend(attention)
    try:
        return AutoModelForCausalLM.from_config(config, attn_implementation=chosen, dtype=torch.float32)
    except (ValueError, ImportError) as error:
        reason = str(error).partition(". ")[0]
        raise SeedbedError(f"attention: {chosen} and {shape.model_type} do not go together: {reason}") from None


def load_model(
    folder: Path, attention: str | None = None, dtype: torch.dtype = torch.float32, least_vocabulary: int = 0
) -> torch.nn.Module:
    """The causal LM of a transformers directory, those with KeyNorm included; None is its default attention.

    Raises SeedbedError when its vocabulary is smaller than `least_vocabulary`.
    """
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation=attention)
    if (own := model.config.get_text_config().vocab_size) < least_vocabulary:
        raise SeedbedError(f"{folder}: its vocabulary of {own} is smaller than the data's, {least_vocabulary}")
    return model


def export(model: torch.nn.Module, tokenizer: Path, folder: Path, weights: dict | None = None) -> None:
    """Write a transformers directory: config, weights as safetensors (those of the model, unless given), tokenizer."""
    model.save_pretrained(folder, state_dict=weights)
    copy_tokenizer(tokenizer, folder)


def copy_tokenizer(tokenizer: Path, folder: Path) -> None:
    for file in tokenizer.iterdir():
        if file.is_file() and file.name != "stats.json":
            (folder / file.name).write_bytes(file.read_bytes())
