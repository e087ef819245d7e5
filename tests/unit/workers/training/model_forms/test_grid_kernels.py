"""The kernels of quantization-aware training against plain torch: on a GPU, or on a CPU with TRITON_INTERPRET=1."""

from __future__ import annotations

import os
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("triton")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not INTERPRETED and not torch.cuda.is_available():
    pytest.skip("Triton's kernels need a GPU or TRITON_INTERPRET=1", allow_module_level=True)

from tests.support.packed_weights import quantized  # noqa: E402
from workers.compression.pruning.write_sparse import highest  # noqa: E402
from workers.stored_forms.integer_grid import QuantizedWeight  # noqa: E402
from workers.training.model_forms.fake_quantization import FakeQuantizedLinear  # noqa: E402
from workers.training.model_forms.grid_kernels import grid_gradients, rounded  # noqa: E402

DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
# (group size, rows, columns): groups that leave a tile's end free, and whole rows that are no power of two, or more
# than a tile.
GROUPS = [(32, 37, 96), (64, 21, 640), (128, 9, 256), (-1, 7, 640), (-1, 3, 2600)]

every_width = pytest.mark.parametrize("bits", [8, 4, 3, 2])
every_form = pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
every_mask = pytest.mark.parametrize("sparse", [False, True], ids=["whole", "sparse"])
every_group = pytest.mark.parametrize(("group_size", "rows", "columns"), GROUPS)


def layer_of(bits: int, group_size: int, symmetric: bool, sparse: bool, rows: int, columns: int) -> FakeQuantizedLinear:
    """A layer on the CPU some way from its parent: integers that are clipped, halves, and a scale at its least."""
    weight = quantized(bits, group_size, symmetric, rows, columns)
    if sparse:
        mask = highest(torch.rand(rows, columns), columns // 2)
        weight = QuantizedWeight(weight.integers * mask, weight.grid, bits, mask)
    layer = FakeQuantizedLinear(weight)
    with torch.no_grad():
        layer.scale_factor.mul_(1 + 0.2 * torch.randn_like(layer.scale_factor))
        layer.scale_factor[1, 0] = -1.0
        layer.latent.mul_(1 + 0.3 * torch.randn_like(layer.latent))
        layer.latent[0] = layer.grid().scale[0].float().repeat_interleave(columns // layer.scale.shape[1]) * 0.5
        layer.latent[2, :3] = torch.tensor([1e30, -1e30, -0.0])
    return layer


def held(layer: FakeQuantizedLinear) -> tuple[Any, Any, Any, Any, Any]:
    """What the kernels take of the layer, on the device."""
    there = deepcopy(layer).to(DEVICE)
    return there.latent, there.scale, there.scale_factor, there.zero_point, there.mask


def assert_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    assert (found.dtype, found.shape) == (torch.float32, expected.shape)
    torch.testing.assert_close(found.cpu(), expected, rtol=tolerance, atol=tolerance * float(expected.abs().max()))


@every_group
@every_mask
@every_form
@every_width
def test_the_dense_weight_is_what_would_be_stored_bit_for_bit(
    bits: int, group_size: int, symmetric: bool, sparse: bool, rows: int, columns: int
) -> None:
    layer = layer_of(bits, group_size, symmetric, sparse, rows, columns)
    # The interpreter rounds to bfloat16 by cutting off.
    for dtype in (torch.float32, torch.float16, *(() if INTERPRETED else (torch.bfloat16,))):
        found = rounded(*held(layer), bits, dtype)
        assert found.dtype == dtype
        assert torch.equal(found.cpu(), layer.dense(dtype))


@every_group
@every_mask
@every_form
@every_width
def test_gradients_are_those_of_plain_torch(
    bits: int, group_size: int, symmetric: bool, sparse: bool, rows: int, columns: int
) -> None:
    layer = layer_of(bits, group_size, symmetric, sparse, rows, columns)
    torch.manual_seed(5)
    for dtype in (torch.float32, torch.bfloat16):
        grad = torch.randn(rows, columns).to(dtype)
        found = grid_gradients(grad.to(DEVICE), *held(layer), bits)
        of_latent, of_factor = layer.gradients(grad)
        assert torch.equal(found[0].cpu(), of_latent)
        assert_close(found[1], of_factor)
        across = torch.randn(columns, rows).to(dtype).T
        found = grid_gradients(across.to(DEVICE), *held(layer), bits)
        assert torch.equal(found[0].cpu(), layer.gradients(across)[0])


def test_a_gradient_that_is_not_finite_stays_so() -> None:
    layer = layer_of(3, 64, False, True, 8, 640)
    grad = torch.zeros(8, 640)
    grad[3, 100] = float("inf")
    grad[6, 600] = float("nan")
    found = grid_gradients(grad.to(DEVICE), *held(layer), 3)
    for ours, theirs in zip(found, layer.gradients(grad), strict=True):
        assert torch.equal(ours.cpu().isfinite(), theirs.isfinite())
        assert not bool(theirs.isfinite().all())


@pytest.mark.skipif(INTERPRETED, reason="a layer calls the kernels on a GPU alone")
@every_mask
@every_form
@every_width
def test_a_layer_on_a_gpu_trains_as_on_a_cpu(bits: int, symmetric: bool, sparse: bool) -> None:
    ours = layer_of(bits, 64, symmetric, sparse, 48, 640)
    theirs = layer_of(bits, 64, symmetric, sparse, 48, 640).to(DEVICE)
    inputs, wanted = torch.randn(2, 5, 640), torch.randn(2, 5, 48)
    assert torch.equal(theirs.weight.cpu(), ours.weight)
    there = inputs.to(DEVICE).requires_grad_()
    nn.functional.mse_loss(theirs(there), wanted.to(DEVICE), reduction="sum").backward()
    nn.functional.mse_loss(ours(inputs.requires_grad_()), wanted, reduction="sum").backward()
    for found, expected in zip((there, *theirs.trained()), (inputs, *ours.trained()), strict=True):
        assert found.grad is not None
        assert expected.grad is not None
        assert_close(found.grad, expected.grad, 1e-4)
    with torch.autocast("cuda", torch.bfloat16):
        theirs(there).sum().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in theirs.trained())
