"""LoRA and DoRA by peft on a model's linear layers, whatever their weights are stored as, and what came of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from search_spaces.errors import CandidateError
from search_spaces.methods.trainers import Recover
from search_spaces.sizes.tensor_table import layer_of
from workers.checkpoints.adapters import AdapterSettings, LowRank


def add_adapters(model: Any, step: Recover, seed: int) -> tuple[Any, AdapterSettings]:
    """The model with a new adapter beside every linear layer of its decoder layers, and the adapter's settings.

    Only the adapter's parameters, float32, are trained. The model itself is changed: its linear layers become peft's,
    which hold them. Raises CandidateError for a model without any.
    """
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora import LoraLayer

    from workers.training.model_forms.fused_lora import FusedLoraLinear

    modules = linear_names(model)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    settings = AdapterSettings(step.rank, step.alpha, step.dropout, step.adapter == "dora", modules)
    config = LoraConfig(
        r=step.rank,
        # peft divides it by the rank, and takes any number.
        lora_alpha=step.alpha,
        lora_dropout=step.dropout,
        use_dora=settings.dora,
        target_modules=rf".*layers\.\d+\..*\b({'|'.join(modules)})",
        bias="none",
        task_type="CAUSAL_LM",
    )
    config._register_custom_module(dict.fromkeys(_own_kinds(model), FusedLoraLinear))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        wrapped = get_peft_model(model, config)
    for module in wrapped.modules():
        if isinstance(module, LoraLayer):
            # Autocast sees to types; peft would make a float32 copy of what every layer reads.
            module.cast_input_dtype_enabled = False
    return wrapped, settings


def _own_kinds(model: Any) -> set[type[nn.Module]]:
    """The classes of the model's linear layers; none for a bitsandbytes model: its layers are `nn.Linear` too, and peft
    has its own for them."""
    kinds = {type(module) for module in model.modules() if isinstance(module, nn.Linear)}
    return set() if any(kind.__module__.startswith("bitsandbytes") for kind in kinds) else kinds


def linear_names(model: Any) -> tuple[str, ...]:
    """The last parts of the names of the decoder layers' linear layers, such as `q_proj`, in order of the alphabet."""
    named = model.named_modules()
    found = {
        name.rpartition(".")[2]
        for name, module in named
        if isinstance(module, nn.Linear) and layer_of(f"{name}.weight") is not None
    }
    if not found:
        raise CandidateError(
            f"recover: the decoder layers of {type(model).__name__} have no linear layers to put adapters beside"
        )
    return tuple(sorted(found))


def low_rank(model: Any, dtype: torch.dtype = torch.float32) -> dict[str, LowRank]:
    """Stem -> adapter as it stands, of a model that `add_adapters` has changed; values rounded to dtype."""
    from peft.tuners.lora import LoraLayer

    found: dict[str, LowRank] = {}
    for name, module in model.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        (key,) = module.lora_A.keys()
        magnitude = module.lora_magnitude_vector[key].weight if key in module.lora_magnitude_vector else None
        found[name] = LowRank(
            module.lora_A[key].weight.detach().to(dtype),
            module.lora_B[key].weight.detach().to(dtype),
            module.scaling[key],
            None if magnitude is None else magnitude.detach().to(dtype),
        )
    return found
