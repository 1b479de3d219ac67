"""One engine for every kind of run: launch, loop, optimizers, schedules, checkpoints, metrics."""
