"""What is added to transformers models: normalised keys, memory across segments, memory in place of a context."""
