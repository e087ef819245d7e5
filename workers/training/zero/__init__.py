"""Training sharded over several processes, by DeepSpeed."""
