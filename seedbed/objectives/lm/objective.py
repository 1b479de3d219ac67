"""Language modelling: predict the next token of packed windows."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from seedbed.data.tokenizer import check_loads
from seedbed.data.tokens import Streams, TokenSplit, Windows
from seedbed.errors import SeedbedError
from seedbed.models import keynorm, recurrence
from seedbed.models.causal_lm import export, load_model, new_model
from seedbed.models.cross_entropy import linear_cross_entropy
from seedbed.models.predictions import check_predictions
from seedbed.models.recurrence import SegmentCache
from seedbed.objectives.contract import Card, Sizes

KEYNORM_IS_NEEDED = "\nIts keys are normalised: `import seedbed.models.keynorm` before `from_pretrained`.\n"


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
        """Loss of windows [sequences, length + 1], which continue the cache if there is one."""
        hidden = self.backbone(input_ids=tokens[:, :-1], past_key_values=cache, use_cache=cache is not None)
        return linear_cross_entropy(hidden.last_hidden_state, self.head, tokens[:, 1:])


class LanguageModelling:
    """The model, the batches and the loss of one run (`seedbed.objectives.contract.Objective`).

    `inputs` are `tokens`, the index of a directory of `build_tokens`, `tokenizer`, and `init`. A sample is a sequence
    of `seq_len` tokens and their targets.
    """

    reads_ahead = True

    def __init__(self, spec: dict, inputs: dict[str, Path]) -> None:
        self.spec, self.inputs = spec, inputs
        self.seq_len = spec["seq_len"]
        check_loads(inputs["tokenizer"].parent)
        train, valid = (TokenSplit(inputs["tokens"].parent, split) for split in ("train", "valid"))
        self.vocab_size, self.eos_id, self.documents = train.vocab_size, train.eos_id, train.documents
        self.valid = Windows(valid, self.seq_len, spec["seed"])
        rows = spec["batch_tokens"] // self.seq_len
        in_order = spec["data"] == "order"
        self.train = Streams(train, self.seq_len, rows) if in_order else Windows(train, self.seq_len, spec["seed"])
        # In ordered data: the caches by the first row of their micro-batch, and the sequence that continues each.
        self.caches: dict[int, SegmentCache] = {}
        self.following: dict[int, int] = {}
        self.loss_module = NextToken(self.initial_model())
        check_predictions(self.model)
        self.model.config.recurrence = None  # what evaluations run the model with
        if self.recurrent:
            recurrence.prepare(self.model)
            self.model.config.recurrence = {key: self.recurrent[key] for key in ("work_size", "cache_size")}

    @property
    def model(self) -> torch.nn.Module:
        """The transformers model that is trained."""
        return self.loss_module.model

    def initial_model(self) -> torch.nn.Module:
        if "init" in self.inputs:
            return load_model(self.inputs["init"], self.spec["attention"], least_vocabulary=self.vocab_size)
        return new_model(self.spec["model"], self.vocab_size, self.eos_id, self.seq_len, self.spec["attention"])

    def sizes(self) -> Sizes:
        config = self.model.config
        return Sizes.of(self.model, config.num_hidden_layers, config.hidden_size, self.seq_len)

    def prepare(self, precision: str) -> None:
        """Do nothing: autocast is all that `bf16` takes."""

    def compile(self) -> None:
        """Apply torch.compile to the transformers model, but not to the loss and recurrence."""
        self.loss_module.backbone = torch.compile(self.model.base_model)

    def checkpoint_activations(self) -> None:
        self.model.gradient_checkpointing_enable({"use_reentrant": False})

    # --- batches ------------------------------------------------------------------------------------------------------

    @property
    def epoch_samples(self) -> int:
        """Sequences in one epoch."""
        return self.train.per_epoch

    def batch(self, numbers: range) -> torch.Tensor:
        """Tokens [len(numbers), seq_len + 1] of the training sequences with these numbers."""
        return self.checked(np.stack([self.train.window(number) for number in numbers]))

    def largest_batch(self, size: int) -> torch.Tensor:
        """A batch of `size` sequences that takes as much memory as any other."""
        return torch.zeros(size, self.seq_len + 1, dtype=torch.int64)

    def validation_numbers(self) -> range:
        """Numbers of the validation windows: as many as `validation.tokens` holds, at least one."""
        wanted = max(1, self.spec["validation"]["tokens"] // self.seq_len)
        return range(min(self.valid.per_epoch, wanted))

    def validation_batch(self, numbers: range) -> torch.Tensor:
        """Tokens [len(numbers), seq_len + 1] of the validation windows with these numbers."""
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
    def losses_per_batch(self) -> int:
        """Backward passes per micro-batch, each over the mean loss of an equal share of its tokens."""
        if not self.recurrent:
            return 1
        return self.seq_len // (self.recurrent["work_size"] * self.recurrent["stop_gradient_step"])

    def losses(self, model: torch.nn.Module, tokens: torch.Tensor, numbers: range) -> Iterator[torch.Tensor]:
        """Mean losses of the parts of a micro-batch [sequences, seq_len + 1]; a backward pass may follow each."""
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
        """An empty cache, or in ordered data the one that these rows had after the batch before."""
        if self.spec["data"] == "shuffle":
            return SegmentCache(self.recurrent["cache_size"])
        row = self.train.row(numbers[0])
        if self.following.get(row) != numbers[0] or self.train.starts(numbers[0]):
            self.caches[row] = SegmentCache(self.recurrent["cache_size"])
        self.following[row] = numbers[0] + self.train.rows
        return self.caches[row]

    def step_done(self) -> None:
        """Nothing is learned but weights."""

    @torch.no_grad()
    def validate(self, model: torch.nn.Module, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        """Mean loss of windows [sequences, seq_len + 1], each window independently."""
        if not self.recurrent:
            return {"loss": model(tokens)}
        cache = SegmentCache(self.recurrent["cache_size"])
        return {"loss": torch.stack([model(segment, cache) for segment in self.segments(tokens)]).mean()}

    def diagnostics(self) -> dict[str, torch.Tensor]:
        """Values of the last forward pass to log beside the loss."""
        norm = keynorm.mean_key_norm(self.model)
        return {} if norm is None else {"key_norm": norm}

    # --- state --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The caches of this rank's rows, by row: [layers, 2, kv_heads, length, head_dim] each."""
        rows = {}
        for first, cache in self.caches.items():
            if (state := cache.state()) is not None:
                rows |= {str(first + index): state[:, :, index].cpu() for index in range(state.shape[2])}
        return rows

    def load_state_dict(self, state: dict[str, torch.Tensor], micro_batches: list[range], device: torch.device) -> None:
        """Restore the caches of the rows that continue with these micro-batches."""
        self.caches, self.following = {}, {}
        for numbers in micro_batches if state else []:
            first = self.train.row(numbers[0])
            cached = torch.stack([state[str(self.train.row(number))] for number in numbers], 2).to(device)
            self.caches[first] = SegmentCache.of(self.recurrent["cache_size"], cached)
            self.following[first] = numbers[0]

    # --- what a finished run leaves -----------------------------------------------------------------------------------

    def export(self, folder: Path, published: Path, weights: dict[str, torch.Tensor]) -> None:
        """Write a transformers directory with these weights."""
        weights = {name.removeprefix("model."): weight for name, weight in weights.items()}
        export(self.model, self.inputs["tokenizer"].parent, folder, weights)

    def card(self) -> Card:
        return Card(
            metadata="library_name: transformers\npipeline_tag: text-generation",
            what=f"A {self.spec['model']['family']} language model",
            trained_on=f"{self.documents:,} documents",
            how=KEYNORM_IS_NEEDED if self.spec["model"]["key_norm"] else "",
            loss_unit="nats per token",
        )

    def provenance(self) -> dict:
        return {"attention": self.model.config._attn_implementation}
