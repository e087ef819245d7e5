"""What all integer quantizers share: walking the weights of a checkpoint, and writing the packed folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from search_spaces.sizes.tensor_table import Tensor, is_embedding, is_target
from workers.checkpoints.model_files import read_checkpoint, read_config
from workers.compression.layer_progress import tell_layers
from workers.plan.compression_context import CompressionContext, Report
from workers.stored_forms.checkpoint import OWN, PLAIN, copy_small_files, dense_tensors, write_config, write_tensors
from workers.stored_forms.integer_grid import QuantizedWeight
from workers.stored_forms.packing import pack
from workers.stored_forms.quantization_config import WeightScheme, quantization_config, with_embeddings

# (tensor name, weight, mask of a sparse weight or None) -> the quantized weight.
Quantize = Callable[[str, torch.Tensor, torch.Tensor | None], QuantizedWeight]
Change = Callable[[str, torch.Tensor], torch.Tensor]


def write_quantized(
    parent: Path,
    out: Path,
    quantize: Quantize,
    context: CompressionContext,
    change: Change = lambda name, tensor: tensor,
    embeddings: Callable[[torch.Tensor], QuantizedWeight] | None = None,
) -> Report:
    """Write the parent with every targeted weight quantized; the targets are the linear weights of the decoder layers.

    change: applied to every tensor first, targeted or not (for methods that move scales between layers). embeddings:
    quantizes the token embeddings, and the head where it has weights of its own; None leaves them. The folder is one
    that transformers loads by itself, unless its weights are sparse or its embeddings quantized.
    """
    schemes: dict[str, WeightScheme] = {}
    vocabulary: dict[str, WeightScheme] = {}
    left: list[str] = []
    changed = 0
    sparse = any(name.endswith(".weight_mask") for name in _names(parent))

    def packed() -> Iterator[tuple[str, torch.Tensor]]:
        nonlocal changed
        tell = tell_layers("quantizing, layer", parent)
        for name, tensor, mask in dense_tensors(parent, context.device):
            tensor = change(name, tensor)
            stem = name.removesuffix(".weight")
            if embeddings is not None and is_embedding(name):
                weight, found = embeddings(tensor), vocabulary
            elif not is_target(name, Tensor("F32", tuple(tensor.shape))):
                if name.endswith(".weight") and tensor.ndim == 2 and not is_embedding(name):
                    left.append(stem)
                yield name, tensor
                continue
            else:
                tell(name)
                weight, found = quantize(name, tensor, mask), schemes
            found[stem] = scheme_of(weight)
            changed += tensor.numel()
            yield from pack(stem, weight)

    write_tensors(out, packed(), OWN if sparse or embeddings is not None else PLAIN)
    copy_small_files(parent, out)
    config = read_config(parent)
    quantization = quantization_config(schemes, [*left, "lm_head"])
    config["quantization_config"] = with_embeddings(quantization, vocabulary) if vocabulary else quantization
    write_config(out, config)
    return Report(targeted=changed, changed=changed)


def scheme_of(weight: QuantizedWeight) -> WeightScheme:
    """How a quantized weight is stored, in the config's words."""
    groups, columns = weight.grid.scale.shape[1], weight.integers.shape[1]
    return WeightScheme(weight.bits, -1 if groups == 1 else columns // groups, weight.grid.zero_point is None)


def _names(folder: Path) -> list[str]:

    return list(read_checkpoint(folder).tensors)
