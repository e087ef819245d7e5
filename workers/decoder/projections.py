"""Linear layers as the decoder calls them: plain ones side by side become one product, others stay themselves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from workers.decoder.blueprint import Apply
from workers.packed.linear import side_by_side as packed_side_by_side

# MKL's sgemm of 64 tokens by a head of 8000 x 256: 2.9 ms as `x @ w.T`, 1.5 ms as `w @ x.T` (AMD EPYC, 2 cores).
HEAD_COLUMNS = 256


def is_plain(module: nn.Module) -> bool:
    """Whether the module is nothing but `x @ weight.T + bias`: no hook, no quantized input, no weight kept packed."""
    if type(module) is not nn.Linear or not module.weight.is_floating_point():
        return False
    if module._forward_hooks or module._forward_pre_hooks or nn.utils.parametrize.is_parametrized(module):
        return False
    scheme = getattr(module, "quantization_scheme", None)
    if scheme is not None:
        return scheme.input_activations is None and scheme.output_activations is None
    return "forward" not in module.__dict__


def is_capturable(module: nn.Module) -> bool:
    """Whether a CUDA graph can hold the module: plain, or it says so of itself. All its state is its weights."""
    return is_plain(module) or bool(getattr(module, "capturable", False))


def side_by_side(modules: Sequence[nn.Module]) -> Apply:
    """The modules' outputs for one input, joined along the last dimension.

    Plain modules share one weight, which their own become views of, so that the model keeps its size and still works.
    """
    if len(modules) == 1:
        return module_output(modules[0])
    if (packed := packed_side_by_side(modules)) is not None:
        return lambda x: packed(x)
    if all(is_plain(module) for module in modules):
        linears = [module for module in modules if isinstance(module, nn.Linear)]
        weight = _joined([linear.weight for linear in linears])
        bias = None
        if any(linear.bias is not None for linear in linears):
            bias = torch.cat([_bias(linear) for linear in linears])
        return _product(weight, bias)
    return lambda x: torch.cat([module(x) for module in modules], dim=-1)


def module_output(module: nn.Module) -> Apply:
    """The module's output; a plain one without the detour through its hooks."""
    if isinstance(module, nn.Linear) and is_plain(module):
        return _product(module.weight, module.bias)
    return lambda x: module(x)


def head(module: nn.Module) -> Apply:
    """The output head. A plain one on a CPU takes few tokens as columns, and gives a transposed view."""
    if not isinstance(module, nn.Linear) or not is_plain(module) or module.weight.device.type != "cpu":
        return module_output(module)
    weight, bias = module.weight, module.bias

    def product(x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] > HEAD_COLUMNS:
            return functional.linear(x, weight, bias)
        scores = (weight @ x.t()).t()
        return scores if bias is None else scores + bias

    return product


def _product(weight: torch.Tensor, bias: torch.Tensor | None) -> Apply:
    return lambda x: functional.linear(x, weight, bias)


def _joined(weights: Sequence[nn.Parameter]) -> torch.Tensor:
    if together := _already_joined(weights):
        return together[0]
    joined = torch.cat([weight.data for weight in weights])
    start = 0
    for weight in weights:
        weight.data = joined[start : start + weight.shape[0]]
        start += weight.shape[0]
    return joined


def _already_joined(weights: Sequence[nn.Parameter]) -> list[torch.Tensor]:
    """The one matrix that the weights are consecutive views of, from an earlier call; empty when they are not."""
    first = weights[0].data
    storage = first.untyped_storage()
    offset = first.storage_offset()
    for weight in weights:
        if weight.data.untyped_storage().data_ptr() != storage.data_ptr() or weight.storage_offset() != offset:
            return []
        if not weight.is_contiguous():
            return []
        offset += weight.numel()
    rows = sum(weight.shape[0] for weight in weights)
    return [first.as_strided((rows, first.shape[1]), (first.shape[1], 1))]


def _bias(linear: nn.Linear) -> torch.Tensor:
    if linear.bias is not None:
        return linear.bias.data
    return torch.zeros(linear.out_features, dtype=linear.weight.dtype, device=linear.weight.device)
