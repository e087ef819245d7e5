"""Training data: pairs as token ids, the batches of a step, and what must not be trained on."""
