"""Removal of the tokens that are used least, from the embeddings, the head and the tokenizer's files."""
