"""Sizes of a Thinker's weights, from its spec alone."""

from dataclasses import dataclass

from seedbed.objectives.thinker.tasks import layout_of


@dataclass(frozen=True)
class Geometry:
    """How many symbols, positions and latents have weights of their own, and how large a layer is."""

    inputs: int  # symbols that are read
    outputs: int  # symbols that are answered
    width: int
    heads: int
    inner: int
    layers: int
    output_layers: int
    input_positions: int  # rows of tables; 0: positions have no weights
    output_positions: int
    latents: int
    static: int
    pre: bool
    previous: bool  # whether outputs see the ones before them
    tied: bool

    @classmethod
    def of(cls, spec: dict) -> "Geometry":
        """That of a run's spec."""
        model, task = spec["model"], layout_of(spec["task"])
        inputs, outputs = task.inputs, task.outputs
        read, answered = task.sizes(spec["length"])
        tables, full = model["positions"] in ("learned", "random"), model["decoding"] == "full_ar"
        own = model["latents"] == "position"
        return cls(
            inputs=inputs,
            outputs=outputs,
            width=model["hidden_size"],
            heads=model["num_attention_heads"],
            inner=model["intermediate_size"] or 4 * model["hidden_size"],
            layers=model["num_layers"],
            output_layers=0 if full else model["output_layers"],
            input_positions=(model["position_range"] or read) if tables else 0,
            output_positions=(model["position_range"] or answered) if tables else 0,
            latents=0 if full else 1 if own else model["max_latent"] or max(spec["n_latent"]),
            static=model["static_memory"],
            pre=model["norm"] == "pre",
            previous=model["decoding"] != "parallel",
            tied=model["tie_word_embeddings"],
        )

    @property
    def parameters(self) -> int:
        """Number of weights."""
        attention = 4 * (self.width + 1) * self.width
        inner = self.inner * (2 * self.width + 1) + self.width
        norms = (3 if self.pre else 2) * 2 * self.width
        rows = self.inputs + self.input_positions + self.latents + self.static
        rows += self.output_positions or 1  # without a table all outputs begin with one vector
        rows += self.outputs + 1 if self.previous else 0
        head = self.outputs + (0 if self.tied else self.outputs * self.width)
        last = 2 * self.width if self.pre else 0
        return (self.layers + self.output_layers) * (attention + inner + norms) + rows * self.width + head + last
