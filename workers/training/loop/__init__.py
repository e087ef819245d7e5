"""The training loop: its state from step to step, its checkpoints, gradients and optimizer."""
