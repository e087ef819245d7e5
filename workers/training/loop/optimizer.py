"""AdamW over what a learner trains: no step waits for the host, and none that is not finite is applied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

# Torch's own, and those of the recipes in search_spaces/methods/recipes.py.
BETAS = (0.9, 0.999)
LARGEST_NORM = 1.0
STATES = ("exp_avg", "exp_avg_sq", "step")


def trainable(learner: nn.Module) -> dict[str, nn.Parameter]:
    """What the learner trains, by name. Raises ValueError when there is nothing."""
    found = {name: parameter for name, parameter in learner.named_parameters() if parameter.requires_grad}
    if not found:
        raise ValueError("the learner has no tensor that requires a gradient; there is nothing to train")
    return found


def adamw(parameters: Mapping[str, nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
    """AdamW (https://arxiv.org/abs/1711.05101), fused, its rate set before each step. Only weights of two dimensions
    decay: not norms, biases, nor the scales of packed weights."""
    decaying = [parameter for name, parameter in parameters.items() if _decays(name, parameter)]
    others = [parameter for name, parameter in parameters.items() if not _decays(name, parameter)]
    groups = [{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, betas=BETAS, fused=True)


def apply_gradients(optimizer: torch.optim.AdamW, rate: float) -> torch.Tensor:
    """Take one step with the gradients scaled to a norm of 1.0 at most, and drop them.

    Returns the norm before that, () on the device. Where it is not finite, weights and moments stay as they are. Both
    happen inside the fused kernel, by the two tensors that torch's GradScaler hands it.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in held if parameter.grad is not None])
    optimizer.grad_scale = (norm / LARGEST_NORM).clamp(min=1.0).float()
    optimizer.found_inf = (~torch.isfinite(norm)).float()
    optimizer.step()
    optimizer.zero_grad()
    return norm


def tensors_of(parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.AdamW) -> dict[str, torch.Tensor]:
    """The trained tensors and the optimizer's moments, by names such as `exp_avg:model.norm.weight`."""
    tensors = dict(weights_of(parameters))
    for name, parameter in parameters.items():
        held = optimizer.state.get(parameter, {})
        tensors |= {f"{state}:{name}": held[state] for state in STATES if state in held}
    return tensors


def weights_of(parameters: Mapping[str, nn.Parameter]) -> list[tuple[str, torch.Tensor]]:
    """The trained tensors alone, of an optimizer that has taken no step."""
    return [(f"weight:{name}", parameter.detach()) for name, parameter in parameters.items()]


def restore(
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.AdamW,
    tensors: Iterable[tuple[str, torch.Tensor]],
) -> None:
    """Put back what `tensors_of` gave, in place. Raises ValueError when it is of another learner."""
    optimizer.state.clear()
    missing = set(parameters)
    for key, tensor in tensors:
        kind, _, name = key.partition(":")
        parameter = parameters.get(name)
        if parameter is None or (kind != "step" and tensor.shape != parameter.shape):
            raise ValueError(
                f"the checkpoint holds {key} of shape {tuple(tensor.shape)}, and the learner trains none such; the "
                "checkpoint is of another step or another parent"
            )
        if kind == "weight":
            missing.discard(name)
            parameter.data.copy_(tensor)
        else:
            optimizer.state[parameter][kind] = tensor.to(parameter.device)
    if missing:
        raise ValueError(f"the checkpoint lacks {sorted(missing)[0]}, which the learner trains; it is of another step")


def _decays(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim == 2 and "scale" not in name.rpartition(".")[2]
