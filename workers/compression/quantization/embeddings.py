"""Quantization of the token embeddings, and of the output head where it has its own: to nearest, or by GPTQ.

Most of what rounding a tied table to 4 bits costs, it costs as a head (0.038 of 0.047 nats on an LLM of half a billion
parameters), and what enters the head lies in few directions, so GPTQ can move the errors to others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from search_spaces.methods.quantizers import QuantizeEmbeddings
from search_spaces.sizes.tensor_table import is_embedding, is_head
from workers.checkpoints.model_files import read_checkpoint, read_config
from workers.compression.quantization.gptq import quantize as by_gptq
from workers.compression.quantization.head_inputs import head_hessian
from workers.compression.quantization.range_search import search_grid
from workers.compression.quantization.rtn import quantize
from workers.compression.quantization.write_quantized import scheme_of
from workers.plan.compression_context import CompressionContext, Report
from workers.stored_forms.checkpoint import OWN, copy_small_files, stored_tensors, write_config, write_tensors
from workers.stored_forms.integer_grid import QuantizedWeight, to_integers
from workers.stored_forms.packing import pack
from workers.stored_forms.quantization_config import WeightScheme, with_embeddings

# Of the mean diagonal. A tied table is also read row by row, which weighs all directions alike: 0.01, 0.3 and 3 left
# 0.025, 0.020 and 0.023 nats on an LLM of half a billion parameters (4 bits, symmetric).
TIED_DAMPING, HEAD_DAMPING = 0.3, 0.01

# (name, weight) -> the weight on its grid.
Quantize = Callable[[str, torch.Tensor], QuantizedWeight]


def compress(parent: Path, out: Path, step: QuantizeEmbeddings, context: CompressionContext) -> Report:
    """Write the parent with embeddings and head packed; all else as the parent stores it, compressed or not.

    A tied head is not stored, and so stays tied. The folder is our own form: transformers 5.17 can't load a quantized
    embedding. Raises ValueError for a weight that is not finite, and what `head_hessian` raises.
    """
    quantized = _by_head(parent, step, context) if step.by == "gptq" else partial(_to_nearest, step)
    schemes: dict[str, WeightScheme] = {}
    changed = 0

    def tensors() -> Iterator[tuple[str, torch.Tensor]]:
        nonlocal changed
        for name, tensor in stored_tensors(parent, context.device):
            if not is_embedding(name):
                yield name, tensor
                continue
            weight = quantized(name, tensor)
            stem = name.removesuffix(".weight")
            schemes[stem] = scheme_of(weight)
            changed += tensor.numel()
            yield from pack(stem, weight)

    write_tensors(out, tensors(), OWN)
    copy_small_files(parent, out)
    config = read_config(parent)
    config["quantization_config"] = with_embeddings(config.get("quantization_config"), schemes)
    write_config(out, config)
    return Report(targeted=changed, changed=changed)


def _to_nearest(step: QuantizeEmbeddings, name: str, weight: torch.Tensor) -> QuantizedWeight:
    return quantize(weight, step.bits, step.group_size)


def _by_head(parent: Path, step: QuantizeEmbeddings, context: CompressionContext) -> Quantize:
    """A head, and embeddings that are the head too, by GPTQ; other embeddings on the grids that round them best: each
    row is read as it is, and no input weighs its columns."""
    hessian = head_hessian(parent, context)
    heads = [name for name in read_checkpoint(parent).tensors if is_head(name)]

    def quantized(name: str, weight: torch.Tensor) -> QuantizedWeight:
        if heads and not is_head(name):
            even = torch.ones(weight.shape[1], device=weight.device)
            grid = search_grid(weight, even, step.bits, step.group_size, step.symmetric)
            return QuantizedWeight(to_integers(weight, grid, step.bits), grid, step.bits, None)
        damping = HEAD_DAMPING if heads else TIED_DAMPING
        return by_gptq(weight, hessian, step.bits, step.group_size, symmetric=step.symmetric, damping=damping)

    return quantized
