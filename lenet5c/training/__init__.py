"""Training: epochs and batches, optimizers, schedules, checkpoints, callbacks."""
