"""What processes share: locks, the artefact store, a GPU's memory, progress and warnings."""
