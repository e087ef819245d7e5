"""Layers whose weights train in few bits: they start at the parent's weight, follow the gradients of their definition,
keep no dense weight, and end at what is stored."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from search_spaces.errors import CandidateError
from tests.support.packed_weights import COLUMNS, ROWS, kept, parts, quantized
from workers.compression.pruning.write_sparse import highest
from workers.stored_forms.integer_grid import QuantizedWeight, bounds
from workers.training.loop.optimizer import adamw
from workers.training.model_forms.fake_quantization import (
    FakeQuantizedLinear,
    FrozenPackedLinear,
    ScaledLinear,
    SparseLinear,
    StoredLinear,
    quantized_weight,
)

GRIDS = [(8, 64, True), (4, 32, False), (3, -1, True), (2, 64, False)]
every_grid = pytest.mark.parametrize(("bits", "group_size", "symmetric"), GRIDS)


def inputs() -> torch.Tensor:
    return torch.randn(2, 5, COLUMNS, generator=torch.Generator().manual_seed(3), requires_grad=True)


def ready(layer: Any) -> Any:
    """The layer after its parameters have gone some way from where they began."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in layer.trained():
            parameter.mul_(1 + 0.2 * torch.randn_like(parameter))
    return layer


def masked(weight: QuantizedWeight) -> QuantizedWeight:
    mask = highest(torch.rand(ROWS, COLUMNS, generator=torch.Generator().manual_seed(4)), COLUMNS // 2)
    return QuantizedWeight(weight.integers * mask, weight.grid, weight.bits, mask)


def gradients(layer: StoredLinear, dense: torch.Tensor, leaves: list[torch.Tensor]) -> None:
    """The layer's output and gradients are those of `dense`, which autograd sees the `leaves` in."""
    ours, theirs = inputs(), inputs()
    out = layer(ours)
    expected = nn.functional.linear(theirs, dense)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-4)
    out.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-2)
    for parameter, leaf in zip(layer.trained(), leaves, strict=True):
        assert parameter.grad is not None
        assert leaf.grad is not None
        spread = float(leaf.grad.abs().max())
        torch.testing.assert_close(parameter.grad, leaf.grad, rtol=1e-4, atol=1e-5 * spread)


@every_grid
def test_each_layer_starts_at_the_stored_weight_exactly(bits: int, group_size: int, symmetric: bool) -> None:
    weight = quantized(bits, group_size, symmetric)
    for layer in (FrozenPackedLinear(kept(weight)), ScaledLinear(kept(weight)), FakeQuantizedLinear(weight)):
        assert torch.equal(layer.weight, weight.dequantized())
        assert (layer.out_features, layer.in_features) == (ROWS, COLUMNS)
        assert torch.equal(layer(inputs()), nn.functional.linear(inputs(), weight.dequantized()))
    stored = parts(weight)
    for layer in (ScaledLinear(kept(weight)), FakeQuantizedLinear(weight)):
        assert layer.parts()
        assert all(torch.equal(tensor, stored[part]) for part, tensor in layer.parts().items())


@every_grid
def test_stored_parts_become_the_quantized_weight_again(bits: int, group_size: int, symmetric: bool) -> None:
    for weight in (quantized(bits, group_size, symmetric), masked(quantized(bits, group_size, symmetric))):
        found = quantized_weight(parts(weight), bits)
        assert torch.equal(found.integers, weight.integers)
        assert torch.equal(found.dequantized(), weight.dequantized())
        assert torch.equal(FakeQuantizedLinear(found).weight, weight.dequantized())
    with pytest.raises(CandidateError, match="only packed integers"):
        quantized_weight({"weight": torch.zeros(2, 2)}, None)


@every_grid
def test_scales_have_the_gradient_of_integers_times_scales(bits: int, group_size: int, symmetric: bool) -> None:
    weight = quantized(bits, group_size, symmetric)
    layer = ready(ScaledLinear(kept(weight)))
    factor = layer.scale_factor.detach().clone().requires_grad_()
    scale = weight.grid.scale.float() * factor
    scale = scale + (scale.bfloat16().float() - scale).detach()
    zero = 0 if weight.grid.zero_point is None else weight.grid.zero_point.float()[..., None]
    grouped = weight.integers.float().reshape(ROWS, scale.shape[1], -1) - zero
    gradients(layer, (grouped * scale[..., None]).reshape(ROWS, COLUMNS), [factor])


@pytest.mark.parametrize("sparse", [False, True])
@every_grid
def test_latent_weights_have_the_straight_through_gradient(
    bits: int, group_size: int, symmetric: bool, sparse: bool
) -> None:
    weight = quantized(bits, group_size, symmetric)
    weight = masked(weight) if sparse else weight
    layer = ready(FakeQuantizedLinear(weight))
    latent, factor = (parameter.detach().clone().requires_grad_() for parameter in layer.trained())
    scale = weight.grid.scale.float() * factor
    stored = scale + (scale.bfloat16().float() - scale).detach()
    zero = torch.zeros(1) if weight.grid.zero_point is None else weight.grid.zero_point.float()[..., None]
    scaled = latent.reshape(ROWS, scale.shape[1], -1) / stored[..., None] + zero
    rounded = scaled + (scaled.round() - scaled).detach()
    integers = rounded.clamp(*bounds(bits))
    assert bool((rounded != integers).any())
    dense = ((integers - zero) * stored[..., None]).reshape(ROWS, COLUMNS)
    if weight.mask is not None:
        dense = dense * weight.mask
    gradients(layer, dense, [latent, factor])
    if weight.mask is not None:
        assert layer.latent.grad is not None
        assert not bool(layer.latent.grad[~weight.mask].any())


def test_sparse_weights_keep_their_zeros() -> None:
    mask = highest(torch.rand(ROWS, COLUMNS), 100)
    weight = (torch.randn(ROWS, COLUMNS) * mask).bfloat16()
    layer = SparseLinear(weight, mask)
    assert torch.equal(layer.weight, weight.float())
    values = layer.values.detach().clone().requires_grad_()
    gradients(layer, values * mask, [values])
    with torch.no_grad():
        layer.values += 1
    assert torch.equal(layer.weight != 0, mask & (weight != -1))
    (stored,) = layer.parts().values()
    assert (stored.dtype, stored.shape) == (torch.bfloat16, (ROWS, 100))


@pytest.mark.parametrize("kind", [FrozenPackedLinear, ScaledLinear, FakeQuantizedLinear])
def test_no_dense_weight_waits_for_the_backward_pass(kind: Any) -> None:
    weight = quantized(4)
    layer = kind(weight if kind is FakeQuantizedLinear else kept(weight))
    own = {tensor.data_ptr() for tensor in (*layer.parameters(), *layer.buffers())}
    saved: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(inputs()).sum().backward()
    assert all(tensor.shape[-1] == COLUMNS and tensor.numel() == 10 * COLUMNS for tensor in saved
               if tensor.data_ptr() not in own)  # fmt: skip


def test_products_take_autocasts_type_and_biases_train_when_asked() -> None:
    layer = FakeQuantizedLinear(quantized(4))
    layer.bias = torch.ones(ROWS)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(inputs())
    assert out.dtype == torch.bfloat16
    assert "bias" not in dict(layer.named_parameters())
    layer.train_bias()
    out = layer(inputs())
    out.sum().backward()
    assert out.dtype == torch.float32
    assert layer.bias is not None
    assert torch.equal(layer.bias.grad, torch.full((ROWS,), 10.0))
    frozen = FrozenPackedLinear(kept(quantized(4)))
    frozen.train_bias()
    assert frozen.bias is None


def test_weights_decay_and_the_factors_of_scales_do_not() -> None:
    layer = FakeQuantizedLinear(quantized(4))
    groups = adamw(dict(layer.named_parameters()), 0.5).param_groups
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert decays == {id(layer.latent): 0.5, id(layer.scale_factor): 0.0}


def test_a_scale_can_not_become_negative() -> None:
    layer = FakeQuantizedLinear(quantized(4))
    with torch.no_grad():
        layer.scale_factor -= 2
    assert bool((layer.grid().scale > 0).all())
    assert bool(layer.weight.isfinite().all())
