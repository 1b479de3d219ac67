"""Changes to the attention of transformers models: normalised keys, memory across segments."""
