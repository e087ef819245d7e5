"""The compression methods: a frozen dataclass each, known by name; what they share and what follows what."""
