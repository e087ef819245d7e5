"""Quantization of the token embeddings, and of the output head where it has its own weights, by round-to-nearest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from search_spaces.methods.quantizers import QuantizeEmbeddings
from search_spaces.sizes.tensor_table import is_embedding
from workers.checkpoints.model_files import read_config
from workers.compression.quantization.rtn import quantize
from workers.compression.quantization.write_quantized import scheme_of
from workers.plan.compression_context import CompressionContext, Report
from workers.stored_forms.checkpoint import OWN, copy_small_files, stored_tensors, write_config, write_tensors
from workers.stored_forms.packing import pack
from workers.stored_forms.quantization_config import WeightScheme, with_embeddings


def compress(parent: Path, out: Path, step: QuantizeEmbeddings, context: CompressionContext) -> Report:
    """Write the parent with embeddings and head packed; all else as the parent stores it, compressed or not.

    A tied head is not stored, and so stays tied. The folder is our own form: transformers 5.17 can't load a quantized
    embedding. Raises ValueError for a weight that is not finite.
    """
    schemes: dict[str, WeightScheme] = {}
    changed = 0

    def tensors() -> Iterator[tuple[str, torch.Tensor]]:
        nonlocal changed
        for name, tensor in stored_tensors(parent, context.device):
            if not is_embedding(name):
                yield name, tensor
                continue
            weight = quantize(tensor, step.bits, step.group_size)
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
