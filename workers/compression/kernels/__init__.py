"""Inner loops of quantizers as Triton kernels, imported only where tensors lie on a GPU."""
