"""Model families: the fields of their transformers configs that a study may set, and their parameter counts.

Plain arithmetic, so that a dry run can print sizes without loading a deep-learning framework; a test holds every
formula against the real model.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, TypeAdapter, model_validator

from seedbed.config.fields import Number, Positive, PositiveNumber, Share, Strict


def check_heads(name: str, width: int, heads: int) -> None:
    if width % heads:
        below = width // heads * heads
        near = " or ".join(str(n) for n in (below, below + heads) if n)
        raise ValueError(f"{name} {width} does not divide into {heads} heads; nearest that do: {near}")


class Shape(Strict):
    """What all families have."""

    # keys of unit length and the attention scale 1 (seedbed.models.keynorm)
    key_norm: bool = False

    @property
    def model_type(self) -> str:
        """The transformers model type."""
        return f"{self.family}_keynorm" if self.key_norm else self.family


class Llama(Shape):
    """Decoder with RoPE, RMSNorm and SwiGLU (LLaMA, arXiv 2302.13971), by `transformers.LlamaConfig` field names."""

    positions_field: ClassVar[str] = "max_position_embeddings"

    family: Literal["llama"]
    hidden_size: Positive
    intermediate_size: Positive
    num_hidden_layers: Positive
    num_attention_heads: Positive
    num_key_value_heads: Positive | None = None
    head_dim: Positive | None = None
    max_position_embeddings: Positive | None = None
    rope_theta: PositiveNumber = 10000.0
    rms_norm_eps: PositiveNumber = 1e-6
    initializer_range: PositiveNumber = 0.02
    attention_dropout: Share = 0.0
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = False

    @model_validator(mode="after")
    def heads_divide(self) -> "Llama":
        if self.head_dim is None:
            check_heads("hidden_size", self.hidden_size, self.num_attention_heads)
            check_heads("hidden_size", self.hidden_size, 2 * self.num_attention_heads)  # RoPE turns pairs
        elif self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim}: RoPE turns pairs; expected an even number")
        check_heads("num_attention_heads", self.num_attention_heads, self.num_key_value_heads or 1)
        return self

    def parameters(self, vocab_size: int, positions: int) -> int:
        """Number of weights with a vocabulary of `vocab_size`; `positions` adds none (RoPE)."""
        return vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2) + self.block_parameters()

    def block_parameters(self) -> int:
        """Number of weights without the embeddings and the output head."""
        d, ff = self.hidden_size, self.intermediate_size
        head = self.head_dim or d // self.num_attention_heads
        q = head * self.num_attention_heads
        kv = head * (self.num_key_value_heads or self.num_attention_heads)
        attention = d * q + 2 * d * kv + q * d + (q + 2 * kv + d) * self.attention_bias
        mlp = 3 * d * ff + (2 * ff + d) * self.mlp_bias
        return self.num_hidden_layers * (attention + mlp + 2 * d) + d

    def to_transformers(self) -> dict:
        """Keyword arguments for `transformers.AutoConfig.for_model("llama", ...)`."""
        fields = self.model_dump(exclude={"family", "key_norm", "rope_theta"}, exclude_none=True)
        return fields | {"rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta}}


class GPT2(Shape):
    """Decoder with learned positions (GPT-2, Radford et al. 2019), by `transformers.GPT2Config` field names."""

    positions_field: ClassVar[str] = "n_positions"

    family: Literal["gpt2"]
    n_embd: Positive
    n_layer: Positive
    n_head: Positive
    n_inner: Positive | None = None
    n_positions: Positive | None = None
    activation_function: Literal["gelu_new", "gelu", "relu", "silu"] = "gelu_new"
    resid_pdrop: Share = 0.0
    embd_pdrop: Share = 0.0
    attn_pdrop: Share = 0.0
    layer_norm_epsilon: PositiveNumber = 1e-5
    initializer_range: Number = 0.02
    tie_word_embeddings: bool = True

    @model_validator(mode="after")
    def heads_divide(self) -> "GPT2":
        check_heads("n_embd", self.n_embd, self.n_head)
        return self

    @property
    def num_hidden_layers(self) -> int:
        return self.n_layer

    @property
    def hidden_size(self) -> int:
        return self.n_embd

    @property
    def max_position_embeddings(self) -> int | None:
        return self.n_positions

    def parameters(self, vocab_size: int, positions: int) -> int:
        """Number of weights with a vocabulary of `vocab_size` and a table of `positions` positions."""
        heads = vocab_size * (1 if self.tie_word_embeddings else 2)
        return (heads + (self.n_positions or positions)) * self.n_embd + self.block_parameters()

    def block_parameters(self) -> int:
        """Number of weights without the embeddings and the output head."""
        d, ff = self.n_embd, self.n_inner or 4 * self.n_embd
        return self.n_layer * ((4 * d * d + 4 * d) + (2 * d * ff + ff + d) + 4 * d) + 2 * d

    def to_transformers(self) -> dict:
        """Keyword arguments for `transformers.AutoConfig.for_model("gpt2", ...)`."""
        fields = self.model_dump(exclude={"family", "key_norm"}, exclude_none=True)
        # The same function in one kernel instead of eight.
        return fields | ({"activation_function": "gelu_pytorch_tanh"} if self.activation_function == "gelu_new" else {})


Architecture = Annotated[Llama | GPT2, Field(discriminator="family")]


def architecture(fields: dict) -> Llama | GPT2:
    """The architecture of a model that a spec holds as plain JSON."""
    return TypeAdapter(Architecture).validate_python(fields)
