"""The compression methods, one module each: a checkpoint folder and a step in, a compressed checkpoint folder out."""
