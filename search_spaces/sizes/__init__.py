"""The bytes of a candidate, worked out from the base model's tensor table before any GPU is spent."""
