"""The forms in which a model is trained, and back: dense, beside an adapter, through its rounding, a student."""
