"""The forms in which a checkpoint stores weights: integer grids, packed values, masks, and their config."""
