"""Forms in which other engines take a model: GGUF, dense bfloat16, compressed-tensors as vLLM reads it."""
