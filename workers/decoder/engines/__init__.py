"""The decoder's engines: a dense one for a CPU, a paged one for a GPU, and what both run on."""
