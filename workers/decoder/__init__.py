"""A fast decoder for causal LMs: a batch that is refilled as sequences end, and no step spent on padding."""
