"""What a run learns: the model, its batches and its loss. Every objective is driven by `seedbed.train`."""
