"""Translation by a causal LM: the prompt, the decoding, and the clean hypothesis."""
