"""A parent's model in the form that is trained: dense, beside an adapter, by its scales, or on its grid.

Five forms: float32 weights of a dense parent; adapters on frozen weights; the scales of packed weights; packed weights
trained through their rounding; the kept weights of a sparse parent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from search_spaces.errors import CandidateError
from search_spaces.methods.trainers import Finetune, Recover
from search_spaces.sizes.tensor_table import is_embedding
from workers.checkpoints.adapters import AdapterSettings, LowRank
from workers.checkpoints.model_files import read_checkpoint, read_config
from workers.loading.load import CPU_DTYPE, CUDA_DTYPE, is_bitsandbytes, load_model
from workers.packed.load import fill_model
from workers.packed.weight import packed_weight
from workers.stored_forms.checkpoint import packed_stems, stored_tensors
from workers.stored_forms.packing import unpack
from workers.stored_forms.quantization_config import bits_of
from workers.training.model_forms.fake_quantization import (
    FakeQuantizedLinear,
    FrozenPackedLinear,
    ScaledLinear,
    SparseLinear,
    StoredLinear,
    quantized_weight,
)
from workers.training.model_forms.lora import add_adapters, low_rank

Parts = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Trainable:
    """A model in training form."""

    model: Any
    """The model that is trained and called."""
    base: Any
    """The same model without peft around it."""
    parent: Path
    """The folder that it was read from."""
    trust_remote_code: bool = False
    """Whether code that comes with the model may run."""
    adapter: AdapterSettings | None = None
    """Settings of the adapter that is trained, or None."""
    merged: bool = False
    """Whether that adapter is to be added to the weights."""

    @property
    def is_apart(self) -> bool:
        """Whether what is trained is an adapter that stays beside the weights."""
        return self.adapter is not None and not self.merged

    def modules(self) -> dict[str, nn.Module]:
        """The model's modules under the stems that transformers knows; what peft wraps, as it was before."""
        named = self.base.named_modules()
        # A layer within peft's comes after the one around it, and takes its place.
        return {name.replace(".base_layer", ""): module for name, module in named if ".lora_" not in name}

    def low_rank(self) -> dict[str, LowRank]:
        """Stem -> the adapter as it would be used now: rounded as it is stored, where it stays apart."""
        if self.adapter is None:
            return {}
        return low_rank(self.base, torch.bfloat16 if self.is_apart else torch.float32)


def form_of(step: Recover | Finetune, parent: Path, device: torch.device, seed: int, trust: bool) -> Trainable:
    """The form that the step trains the parent in; trust: code that comes with the model is run."""
    if isinstance(step, Finetune):
        return finetune_form(parent, device, trust)
    if step.adapter == "scales":
        return scales_form(parent, device, trust)
    return adapter_form(parent, step, device, seed, trust)


def finetune_form(parent: Path, device: torch.device, trust_remote_code: bool = False) -> Trainable:
    """Every weight in training, as float32 parameters, in the form the parent stores it in: dense, packed integers
    (through their rounding) or sparse (its zeros stay). Packed embeddings stay frozen.

    Raises CandidateError for 8-bit floats, quantized activations and bitsandbytes.
    """
    if is_bitsandbytes(parent):
        raise _unfit("finetune", parent, "bitsandbytes' own form")
    config = read_config(parent)
    frozen: set[int] = set()

    def make(stem: str, stored: Parts, model: Any) -> Any:
        bits = bits_of(stem, config)
        if is_embedding(f"{stem}.weight"):
            module = _dense_frozen(stem, stored, model, bits, torch.float32)
            frozen.add(id(module.weight))
            return module
        if "weight_packed" in stored:
            return FakeQuantizedLinear(quantized_weight(stored, bits))
        weight, mask = unpack(stored, bits)
        if mask is None:
            raise _unfit("finetune", parent, " and ".join(sorted(stored)))
        return SparseLinear(weight, mask)

    model = fill_model(
        parent,
        stored_tensors(parent, device),
        make=make,
        device=device,
        dtype=torch.float32,
        trust_remote_code=trust_remote_code,
    )
    for module in model.modules():
        if isinstance(module, StoredLinear):
            module.train_bias()
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) not in frozen)
    return Trainable(model, model, parent, trust_remote_code)


def scales_form(parent: Path, device: torch.device, trust_remote_code: bool = False) -> Trainable:
    """The scales of packed integers, and the norms; all else is frozen, in the type it is scored in.

    Raises CandidateError for a parent without packed integers, or with sparse or bitsandbytes' ones.
    """
    if is_bitsandbytes(parent):
        raise _unfit("recover with adapter 'scales'", parent, "bitsandbytes' own form")
    config = read_config(parent)
    dtype = _compute_type(device)

    def make(stem: str, stored: Parts, model: Any) -> Any:
        if is_embedding(f"{stem}.weight"):
            return _dense_frozen(stem, stored, model, bits_of(stem, config), dtype)
        if not _is_packed_whole(stored):
            raise _unfit("recover with adapter 'scales'", parent, " and ".join(sorted(stored)))
        return ScaledLinear(packed_weight(stored, bits_of(stem, config)))

    model = fill_model(
        parent,
        stored_tensors(parent, device),
        make=make,
        device=device,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
    )
    scaled = [module for module in model.modules() if isinstance(module, ScaledLinear)]
    if not scaled:
        raise CandidateError("recover.adapter is 'scales', and the parent has no packed weights; use lora or dora")
    factors = {id(module.scale_factor) for module in scaled}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in factors or parameter.ndim == 1)
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return Trainable(model, model, parent, trust_remote_code)


def adapter_form(
    parent: Path, step: Recover, device: torch.device, seed: int, trust_remote_code: bool = False
) -> Trainable:
    """LoRA or DoRA on the frozen parent.

    Packed integers stay packed on the device; sparse weights are frozen dense, and take the memory of dense ones;
    bitsandbytes' layers run on its own kernels (QLoRA, https://arxiv.org/abs/2305.14314). Raises CandidateError where
    an adapter is to be merged into weights that are not dense, and for DoRA on LLM.int8() layers.
    """
    in_parts = bool(packed_stems(read_checkpoint(parent).tensors))
    if step.merged and (in_parts or is_bitsandbytes(parent)):
        raise CandidateError("recover.merged: a packed or sparse weight can't take an adapter in; keep it apart")
    config = read_config(parent)
    if step.adapter == "dora" and config.get("quantization_config", {}).get("load_in_8bit"):
        # peft 0.21 reads the weights at every forward, and drops their scales on the way.
        raise CandidateError("recover.adapter is 'dora', which LLM.int8() layers can't take; use lora")
    dtype = _compute_type(device)

    def make(stem: str, stored: Parts, model: Any) -> Any:
        if _is_packed_whole(stored) and not is_embedding(f"{stem}.weight"):
            return FrozenPackedLinear(packed_weight(stored, bits_of(stem, config)))
        return _dense_frozen(stem, stored, model, bits_of(stem, config), dtype)

    if is_bitsandbytes(parent):
        base = _as_stored(load_model(parent, str(device), trust_remote_code))
    else:
        base = fill_model(
            parent,
            stored_tensors(parent, device),
            make=make,
            device=device,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
        )
    model, settings = add_adapters(base, step, seed)
    return Trainable(
        model=model, base=base, parent=parent, trust_remote_code=trust_remote_code, adapter=settings, merged=step.merged
    )


def _as_stored(model: Any) -> Any:
    """A bitsandbytes model whose 4-bit weights stay in their stored order: on a CPU with AVX512-BF16 the first forward
    pass in eval mode would put them into another, which has no backward pass."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def _is_packed_whole(stored: Parts) -> bool:
    """Whether a weight is stored as packed integers, all of them."""
    return "weight_packed" in stored and "weight_mask" not in stored


def _dense_frozen(stem: str, stored: Parts, model: Any, bits: int | None, dtype: torch.dtype) -> Any:
    """The model's own module, with the weight that these parts stand for."""
    module = model.get_submodule(stem)
    module.weight = nn.Parameter(unpack(stored, bits)[0].to(dtype), requires_grad=False)
    if isinstance(module, nn.Linear) and module.bias is not None:
        # `fill_model` hands it the stored bias as a plain tensor.
        del module.bias
        module.register_buffer("bias", None)
    return module


def _compute_type(device: torch.device) -> torch.dtype:
    return CUDA_DTYPE if device.type == "cuda" else CPU_DTYPE


def _unfit(method: str, parent: Path, form: str) -> CandidateError:
    return CandidateError(
        f"{method}: {parent} stores a weight as {form}, which is not trained; use recover with a lora kept apart, or "
        "an integer quantizer"
    )
