"""Quantization by bitsandbytes, written before any forward pass: on a CPU with AVX512-BF16 the first 4-bit forward
repacks the weights and rounds their scales in place, so a model saved after it is not the one that was quantized."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from search_spaces.checkpoint import Tensor, is_target
from search_spaces.methods import BitsAndBytes
from workers.compression.context import CompressionContext, Report
from workers.compression.folder import copy_small_files
from workers.model_files import CONFIG, read_checkpoint
from workers.models import device_map_for, quieten


def compress(parent: Path, out: Path, step: BitsAndBytes, context: CompressionContext) -> Report:
    """Write the quantized checkpoint to `out`; transformers and bitsandbytes load it by themselves."""
    from transformers import AutoModelForCausalLM

    quieten()
    model = AutoModelForCausalLM.from_pretrained(
        parent,
        quantization_config=_config(step),
        dtype=torch.bfloat16,
        device_map=device_map_for(str(context.device)),
        trust_remote_code=context.trust_remote_code,
        use_safetensors=True,
    )
    model.save_pretrained(out)
    written = (out / CONFIG).read_bytes()
    copy_small_files(parent, out)
    (out / CONFIG).write_bytes(written)
    return _report(parent, out, step)


def _config(step: BitsAndBytes) -> Any:
    from transformers import BitsAndBytesConfig

    if step.format == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)


def _report(parent: Path, out: Path, step: BitsAndBytes) -> Report:
    stored = read_checkpoint(out).tensors
    packed = {"int8": "I8", "nf4": "U8"}[step.format]
    targets = {name: tensor for name, tensor in read_checkpoint(parent).tensors.items() if is_target(name, tensor)}
    changed = sum(
        tensor.parameters for name, tensor in targets.items() if stored.get(name, Tensor("F32", ())).dtype == packed
    )
    return Report(sum(tensor.parameters for tensor in targets.values()), changed)
