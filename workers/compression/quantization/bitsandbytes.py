"""Quantization by bitsandbytes, written before any forward pass: on a CPU with AVX512-BF16 the first 4-bit forward
repacks the weights and rounds their scales in place, so a model saved after it is not the one that was quantized."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from search_spaces.methods.quantizers import BitsAndBytes
from search_spaces.sizes.tensor_table import Tensor, is_target
from workers.checkpoints.model_files import CONFIG, needed_alone, read_checkpoint
from workers.loading.load import placement_for, quieten
from workers.loading.spread import device_map_of, skeleton, with_moves
from workers.plan.compression_context import CompressionContext, Report
from workers.stored_forms.checkpoint import copy_small_files, stored_tensors

# safetensors' names for the types that the library stores each format's weights in; 4-bit codes go two a byte.
STORED_DTYPES = {"int8": "I8", "nf4": "U8", "fp4": "U8"}


def compress(parent: Path, out: Path, step: BitsAndBytes, context: CompressionContext) -> Report:
    """Write the quantized checkpoint to `out`; transformers and bitsandbytes load it by themselves.

    All but the linear weights of the decoder layers is written as bfloat16. Raises ValueError for a weight that is not
    finite: the library would quantize it to finite nonsense.
    """
    from transformers import AutoModelForCausalLM

    _refuse_not_finite(parent, context.device)
    quieten()
    placement = placement_for(parent, context.whole_on, context.trust_remote_code)
    architecture = skeleton(parent, torch.bfloat16, context.trust_remote_code) if placement.is_spread else None
    with needed_alone(parent) as needed:
        model = AutoModelForCausalLM.from_pretrained(
            needed,
            quantization_config=_config(step),
            dtype=torch.bfloat16,
            device_map=device_map_of(architecture, placement),
            trust_remote_code=context.trust_remote_code,
            use_safetensors=True,
        )
    with_moves(model, placement).save_pretrained(out)
    written = (out / CONFIG).read_bytes()
    copy_small_files(parent, out)
    (out / CONFIG).write_bytes(written)
    return _report(parent, out, step)


def _refuse_not_finite(parent: Path, device: torch.device) -> None:
    for name, tensor in stored_tensors(parent, device):
        if is_target(name, Tensor("F32", tuple(tensor.shape))) and not torch.isfinite(tensor).all():
            raise ValueError(f"{name} holds values that are not finite; the base model is damaged")


def _config(step: BitsAndBytes) -> Any:
    from transformers import BitsAndBytesConfig

    if step.format == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=step.format,
        bnb_4bit_use_double_quant=step.double_quantization,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _report(parent: Path, out: Path, step: BitsAndBytes) -> Report:
    stored = read_checkpoint(out).tensors
    packed = STORED_DTYPES[step.format]
    targets = {name: tensor for name, tensor in read_checkpoint(parent).tensors.items() if is_target(name, tensor)}
    changed = sum(
        tensor.parameters for name, tensor in targets.items() if stored.get(name, Tensor("F32", ())).dtype == packed
    )
    return Report(sum(tensor.parameters for tensor in targets.values()), changed)
