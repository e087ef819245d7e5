"""Running a compressed model with its weights kept packed: the modules, the low-bit kernels, the loader."""
