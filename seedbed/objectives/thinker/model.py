"""The Thinker: latents that attend, step after step, to the input and to their own past; outputs that read the result.

All tensors are feature-first, [width, positions, batch], see `seedbed.objectives.thinker.attention`. What lies in
memory is projected to keys and values once, as all steps share the weights.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seedbed.objectives.thinker.attention import attend
from seedbed.objectives.thinker.flow import Row
from seedbed.objectives.thinker.geometry import Geometry

HIDDEN = -1e9  # added to the score of what must not be seen


@dataclass
class Question:
    """What a model reads: symbols [n, B], where they end, and what it has answered so far.

    `hidden` [n, B] is true for padding (None: there is none). `outputs` are the places to answer; with autoregressive
    decoding `previous` [m, B] are the answers before each of them, the first of which is the start symbol. `places`
    are the rows of the tables of positions, at least as many as inputs and outputs.
    """

    symbols: Tensor
    hidden: Tensor | None
    outputs: int
    previous: Tensor | None
    places: Tensor


class Dense(nn.Linear):
    """Linear over the first dimension."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias[:, None], self.weight, x.flatten(1)).view(-1, *x.shape[1:])


class Norm(nn.Module):
    """LayerNorm over the first dimension (arXiv 1607.06450)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(0)
        x = x * torch.rsqrt(x.square().mean(0) + 1e-5)
        return torch.addcmul(self.bias[:, None, None], x, self.weight[:, None, None])


@dataclass
class Item:
    """Something in memory, [width, n, B], with its keys and values by layer.

    `order` are the positions of its vectors (None: they have none), `hidden` its padding; `causal` items are seen by
    later positions only.
    """

    vectors: Tensor
    order: Tensor | None = None
    hidden: Tensor | None = None
    causal: bool = False
    projected: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def keys_for(self, layer: "Layer") -> tuple[Tensor, Tensor]:
        if id(layer) not in self.projected:
            self.projected[id(layer)] = layer.keys_and_values(self.vectors, self.order)
        return self.projected[id(layer)]

    def bias(self, order: Tensor | None, window: int | None) -> Tensor | None:
        """What hides it from queries of that order: [queries or 1, n, B or 1]."""
        found = None
        if self.causal and order is not None:
            found = (self.order[None] > order[:, None])[..., None]
        if window and self.order is not None and order is not None:
            far = ((self.order[None] - order[:, None]).abs() > window)[..., None]
            found = far if found is None else found | far
        if self.hidden is not None:
            found = self.hidden[None] if found is None else found | self.hidden[None]
        return None if found is None else torch.where(found, HIDDEN, 0.0)


class Layer(nn.Module):
    """Attention to memory and a network for each position, with norms before (pre) or after them (post)."""

    def __init__(self, geometry: Geometry, dropout: float, rotary: bool) -> None:
        super().__init__()
        width = geometry.width
        self.heads, self.pre, self.dropout, self.rotary = geometry.heads, geometry.pre, dropout, rotary
        self.checkpointed = False
        self.query, self.key, self.value, self.out = (Dense(width, width) for _ in range(4))
        self.up, self.down = Dense(width, geometry.inner), Dense(geometry.inner, width)
        self.norm_attention, self.norm_network = Norm(width), Norm(width)
        self.norm_memory = Norm(width) if self.pre else None

    def keys_and_values(self, vectors: Tensor, order: Tensor | None) -> tuple[Tensor, Tensor]:
        vectors = self.norm_memory(vectors) if self.pre else vectors
        return self.turned(self.split(self.key(vectors)), order), self.split(self.value(vectors))

    def forward(self, x: Tensor, items: list[Item], order: Tensor | None, bias: Tensor | None) -> Tensor:
        q = self.turned(self.split(self.query(self.norm_attention(x) if self.pre else x)), order)
        keys, values = zip(*(item.keys_for(self) for item in items), strict=True)
        found = self.kept_small(attend, q, joined(keys), joined(values), bias)
        x = x + self.dropped(self.out(found.flatten(0, 1)))
        x = x if self.pre else self.norm_attention(x)
        x = x + self.dropped(self.kept_small(self.network, self.norm_network(x) if self.pre else x))
        return x if self.pre else self.norm_network(x)

    def network(self, x: Tensor) -> Tensor:
        return self.down(F.relu(self.up(x)))

    def kept_small(self, function: Callable[..., Tensor], *inputs: Tensor | None) -> Tensor:
        """The function's result; with gradient checkpointing it is computed again in the backward pass."""
        if self.checkpointed and torch.is_grad_enabled():
            return checkpoint(function, *inputs, use_reentrant=False)
        return function(*inputs)

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(0, (self.heads, -1))

    def dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x

    def turned(self, x: Tensor, order: Tensor | None) -> Tensor:
        """Rotate pairs of values by their position (RoPE, arXiv 2104.09864), for [heads, width, n, B]."""
        if not self.rotary or order is None:
            return x
        first, second = x.chunk(2, 1)
        pairs = first.shape[1]
        speed = 10_000.0 ** (-torch.arange(pairs, device=x.device) / pairs)
        angle = (speed[:, None] * order)[..., None]
        cos, sin = angle.cos(), angle.sin()
        return torch.cat([first * cos - second * sin, first * sin + second * cos], 1)


def joined(parts: tuple[Tensor, ...]) -> Tensor:
    """Parts [.., n, B or 1] one behind the other."""
    batch = max(part.shape[3] for part in parts)
    return torch.cat([part.expand(-1, -1, -1, batch) for part in parts], 2) if len(parts) > 1 else parts[0]


class Thinker(nn.Module):
    """A model of the sizes `geometry` with the keys of `seedbed.objectives.thinker.config.ThinkerModel`."""

    def __init__(self, geometry: Geometry, model: dict) -> None:
        super().__init__()
        self.geometry, self.model, width = geometry, model, geometry.width
        rotary = model["positions"] == "rope"
        self.symbols = nn.Embedding(geometry.inputs, width)
        self.input_positions = nn.Embedding(geometry.input_positions, width) if geometry.input_positions else None
        self.queries = nn.Embedding(geometry.output_positions or 1, width)
        self.latents = nn.Embedding(geometry.latents, width) if geometry.latents else None
        self.static = nn.Embedding(geometry.static, width) if geometry.static else None
        # the last row is the start
        self.answers = nn.Embedding(geometry.outputs + 1, width) if geometry.previous else None
        self.layers = nn.ModuleList(Layer(geometry, model["dropout"], rotary) for _ in range(geometry.layers))
        self.output_layers = nn.ModuleList(
            Layer(geometry, model["dropout"], rotary) for _ in range(geometry.output_layers)
        )
        self.norm = Norm(width) if geometry.pre else None
        self.head = Dense(width, geometry.outputs)
        if geometry.tied:
            self.head.weight = self.symbols.weight
        for table in self.modules():
            if isinstance(table, nn.Embedding):
                nn.init.uniform_(table.weight, -model["embedding_range"], model["embedding_range"])

    @property
    def start(self) -> int:
        """The symbol before the first answer."""
        return self.geometry.outputs

    def forward(self, question: Question, rows: list[Row], n_latent: int | None) -> list[Tensor]:
        """Scores [symbols, outputs, B] of the answer at each row that has one."""
        return Thought(self, question, n_latent).run(rows)

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Take weights by name, of which a tied head has none; raises RuntimeError where they are not those."""
        tied = {"head.weight": self.head.weight} if self.geometry.tied else {}
        self.load_state_dict(tied | weights)

    # --- what a question begins with ----------------------------------------------------------------------------------

    def read(self, question: Question) -> Item:
        order = torch.arange(len(question.symbols), device=question.symbols.device)
        vectors = first(self.symbols(question.symbols)) + self.places(self.input_positions, question, len(order))
        return Item(vectors, order, question.hidden)

    def places(self, table: nn.Embedding | None, question: Question, count: int) -> Tensor | float:
        """Vectors [width, count, 1] of positions, from a table or as sinusoids (arXiv 1706.03762)."""
        if table is not None:
            return table(question.places[:count]).T[..., None]
        if self.model["positions"] != "sinusoidal":
            return 0.0
        pairs = (self.geometry.width + 1) // 2
        speed = torch.exp(-log(10_000) / pairs * torch.arange(pairs, device=question.places.device))
        angle = speed[:, None] * question.places[:count]
        return torch.cat([angle.sin(), angle.cos()])[: self.geometry.width, :, None] * self.model["embedding_range"]

    def first_latents(self, question: Question, n_latent: int | None) -> tuple[Tensor, Tensor | None]:
        """The latents before the first step, [width, n, B or 1], and their order."""
        count, batch = question.symbols.shape
        if self.model["decoding"] == "full_ar":
            return self.first_outputs(question)
        if self.model["latents"] == "position":
            own = self.latents.weight[0][:, None, None] + self.places(self.input_positions, question, count)
            order = torch.arange(count, device=question.symbols.device)
        else:
            own, count, order = self.latents.weight[:n_latent].T[..., None], n_latent, None
        latents = own.expand(-1, count, 1)
        if self.training and self.model["latent_noise"]:
            noise = torch.randn(len(own), count, batch, device=own.device)
            latents = latents + self.model["latent_noise"] * noise
        return latents, order

    def first_outputs(self, question: Question) -> tuple[Tensor, Tensor]:
        """The queries of the outputs, [width, m, B or 1], and their order."""
        count = question.outputs
        if self.geometry.output_positions:
            own = self.places(self.queries, question, count)
        else:
            own = self.queries.weight.T[..., None] + self.places(None, question, count)
        queries = own.expand(-1, count, 1)
        if question.previous is not None:
            queries = queries + first(self.answers(question.previous))
        return queries, torch.arange(count, device=question.symbols.device)


def first(x: Tensor) -> Tensor:
    """[n, B, width] as [width, n, B]."""
    return x.permute(2, 0, 1).contiguous()


class Thought:
    """A question under consideration: latents and memory."""

    def __init__(self, thinker: Thinker, question: Question, n_latent: int | None) -> None:
        self.thinker, self.question, model = thinker, question, thinker.model
        self.window, self.kept, self.passes = model["window"], model["n_memory"], model["output_step"]
        self.full = model["decoding"] == "full_ar"
        self.input = thinker.read(question)
        static = thinker.static
        self.static = static and Item(static.weight.T[..., None])
        self.latents, self.order = thinker.first_latents(question, n_latent)
        # a latent for each output is an embedding of the answer before it, which those after it have to see
        self.past = [self.written()] if self.full else []

    def run(self, rows: list[Row]) -> list[Tensor]:
        found = []
        for row in rows:
            for layer in self.thinker.layers:
                self.latents = self.attended(layer, self.latents, self.seen(row), self.order)
            if row.mem_write:
                self.past = [*self.past, self.written()][-(self.kept or 0) :]
            if row.output:
                found.append(self.answered(row))
        return found

    def after(self, before: int, rows: list[Row]) -> Tensor:
        """Scores of the last answer, with the first steps, `before` of them, run without gradient."""
        with torch.no_grad():
            self.run(rows[:before])
        # what was projected meanwhile has no gradient
        self.input = self.thinker.read(self.question)
        self.past = [replace(item, projected={}) for item in self.past]
        self.static = self.static and replace(self.static, projected={})
        return self.run(rows[before:])[-1]

    def written(self) -> Item:
        hidden = self.input.hidden if self.order is not None and not self.full else None
        return Item(self.latents, self.order, hidden, causal=self.full)

    def seen(self, row: Row) -> list[Item]:
        items = [self.input] if row.read_input else []
        items += self.past if row.mem_lookup else []
        return items + ([self.static] if row.static_mem_lookup and self.static else [])

    def seen_by_outputs(self, row: Row) -> list[Item]:
        return self.seen(row) + (self.past[-1:] if row.mem_write and not row.mem_lookup else [])

    def answered(self, row: Row) -> Tensor:
        """Scores [symbols, outputs, B]."""
        if self.full:
            outputs = self.latents
        else:
            outputs, order = self.thinker.first_outputs(self.question)
            for _ in range(self.passes):
                for layer in self.thinker.output_layers:
                    own = [Item(outputs, order, causal=True)] if self.question.previous is not None else []
                    outputs = self.attended(layer, outputs, self.seen_by_outputs(row) + own, order)
        return self.thinker.head(self.thinker.norm(outputs) if self.thinker.norm else outputs)

    def attended(self, layer: Layer, x: Tensor, items: list[Item], order: Tensor | None) -> Tensor:
        return layer(x, items, order, hiding(items, order, self.window))


def hiding(items: list[Item], order: Tensor | None, window: int | None) -> Tensor | None:
    """What is added to the scores of all items, [queries or 1, all, B or 1]; None where everything is seen."""
    biases = [item.bias(order, window) for item in items]
    if all(bias is None for bias in biases):
        return None
    full = [
        bias if bias is not None else item.vectors.new_zeros(1, item.vectors.shape[1], 1)
        for item, bias in zip(items, biases, strict=True)
    ]
    queries, batch = (max(bias.shape[axis] for bias in full) for axis in (0, 2))
    return torch.cat([bias.expand(queries, -1, batch) for bias in full], 1)
