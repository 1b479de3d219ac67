"""Models of the literature by name; a configuration's own models go before them."""

from seedbed.models.config import NewModel


def gpt2(layers: int, width: int, heads: int) -> NewModel:
    """GPT-2 (Radford et al. 2019) with its 1024 positions."""
    return NewModel(family="gpt2", n_layer=layers, n_embd=width, n_head=heads, n_positions=1024)


def llama(layers: int, width: int, heads: int, inner: int) -> NewModel:
    return NewModel(
        family="llama",
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=inner,
    )


PRESETS = {
    "gpt2-124m": gpt2(12, 768, 12),
    "gpt2-355m": gpt2(24, 1024, 16),
    # 83.1 M with a vocabulary of 32 000: the segment-recurrent language model
    "llama-12x512": llama(12, 512, 8, 2048),
    # Chinese from zero
    "llama-16x768": llama(16, 768, 12, 2304),
    # depth against width at 415 to 444 M with a vocabulary of 64 000
    "llama-40x512": llama(40, 512, 16, 5000),
    "llama-28x704": llama(28, 704, 16, 5000),
    "llama-16x1024": llama(16, 1024, 16, 5000),
}
