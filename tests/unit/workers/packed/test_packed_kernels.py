"""The packed kernels against plain torch: on a GPU as they ship, on a CPU with TRITON_INTERPRET=1 and without PTX."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

pytest.importorskip("triton")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not INTERPRETED and not torch.cuda.is_available():
    pytest.skip("Triton's kernels need a GPU or TRITON_INTERPRET=1", allow_module_level=True)

from tests.support.packed_weights import kept, quantized  # noqa: E402
from workers.compression.quantization import fp8  # noqa: E402
from workers.compression.quantization.fp8 import E4M3  # noqa: E402
from workers.packed.eight_bit import SPANS, EightBitLinear  # noqa: E402
from workers.packed.kernels import decode, locks_on, product  # noqa: E402
from workers.packed.tiles import Tiles, tiles_for  # noqa: E402
from workers.packed.token_kernel import tokens_on_grid  # noqa: E402
from workers.packed.weight import PackedWeight, packed_weight  # noqa: E402

DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
# The interpreter multiplies no bfloat16.
DTYPE = torch.float32 if INTERPRETED else torch.bfloat16
CASES = [
    (bits, *grid) for bits in (8, 4, 3, 2) for grid in ((32, True, 37, 96), (64, False, 70, 1024), (-1, False, 40, 160))
]


def on_device(weight: PackedWeight) -> PackedWeight:
    moved = (None if one is None else one.to(DEVICE) for one in (weight.packed, weight.scale, weight.zero_point))
    return PackedWeight(*moved, weight.bits, weight.columns)  # type: ignore[arg-type]


def assert_close(found: torch.Tensor, inputs: torch.Tensor, dense: torch.Tensor, bias: Any = None) -> None:
    expected = inputs.double() @ dense.to(DTYPE).double().T
    expected = expected if bias is None else expected + bias.double()
    scale = float(expected.abs().max())
    assert float((found.double() - expected).abs().max()) < scale * (1e-5 if INTERPRETED else 1e-2)


@pytest.mark.parametrize(("bits", "group_size", "symmetric", "rows", "columns"), CASES)
def test_decoded_rows_are_the_stored_ones_bit_for_bit(
    bits: int, group_size: int, symmetric: bool, rows: int, columns: int
) -> None:
    weight = on_device(kept(quantized(bits, group_size, symmetric, rows, columns)))
    assert torch.equal(decode(weight, torch.float32), weight.dense())
    # The interpreter rounds to bfloat16 by cutting off.
    for dtype in (torch.float16,) if INTERPRETED else (torch.float16, torch.bfloat16):
        assert torch.equal(decode(weight, dtype), weight.dense().to(dtype))
    assert torch.equal(decode(weight, torch.float32, first=5, count=7), weight.dense()[5:12])
    ids = torch.tensor([[0, rows - 1, 3], [3, 7, 1]], device=DEVICE)
    assert torch.equal(decode(weight, torch.float32, rows=ids), weight.dense()[ids])


@pytest.mark.parametrize(("bits", "group_size", "symmetric", "rows", "columns"), CASES)
def test_products_are_those_of_the_dense_weight(
    bits: int, group_size: int, symmetric: bool, rows: int, columns: int
) -> None:
    weight = on_device(kept(quantized(bits, group_size, symmetric, rows, columns)))
    for count, tiles in (
        (1, Tiles(16, 16, 1, 1, 1, 2)),
        (1, tiles_for(1, weight)),
        (3, Tiles(16, 16, 1, 2, 1, 2, ptx=False)),
        (5, Tiles(16, 16, 16, 2, 1, 2, regroup=True)),
        (18, Tiles(32, 16, 16, 1, 2, 2, ptx=False)),
    ):
        inputs = torch.randn(count, columns, device=DEVICE).to(DTYPE)
        bias = torch.randn(rows, device=DEVICE).to(DTYPE) if count > 1 else None
        assert_close(product(inputs, weight, bias, tiles), inputs, weight.dense(), bias)


def test_fp8_weights_are_multiplied_as_they_stand() -> None:
    torch.manual_seed(0)
    stored = fp8.quantize(torch.randn(48, 192))
    weight = on_device(packed_weight({"weight": stored.values, "weight_scale": stored.scale}, 8))
    for count in (1, 4):
        inputs = torch.randn(count, 192, device=DEVICE).to(DTYPE)
        assert_close(product(inputs, weight, None, tiles_for(count, weight)), inputs, stored.dequantized().to(DEVICE))
    assert torch.equal(decode(weight, torch.float32), stored.dequantized().to(DEVICE))


def test_shared_tiles_are_added_up_alike_each_time_and_leave_their_locks_free() -> None:
    weight = on_device(kept(quantized(4, 64, True, 64, 1024)))
    inputs = torch.randn(4, 1024, device=DEVICE).to(DTYPE)
    tiles = Tiles(16, 16, 16, 4, 1, 2)
    first = product(inputs, weight, None, tiles)
    assert torch.equal(product(inputs, weight, None, tiles), first)
    assert int(locks_on(inputs.device).count_nonzero()) == 0


@pytest.mark.skipif(INTERPRETED, reason="PTX runs on a GPU")
@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_unpacking_by_ptx_gives_the_same_bits(bits: int) -> None:
    weight = on_device(kept(quantized(bits, 64, False, 64, 1024)))
    for count, tiles in ((1, Tiles(16, 16, 1, 1, 1, 2)), (16, Tiles(32, 16, 16, 1, 2, 2))):
        inputs = torch.randn(count, 1024, device=DEVICE).to(DTYPE)
        plain = Tiles(*(getattr(tiles, name) for name in tiles.__slots__[:6]), ptx=False)
        assert torch.equal(product(inputs, weight, None, tiles), product(inputs, weight, None, plain))


# The interpreter does not round to E4M3.
@pytest.mark.parametrize("dtype", [torch.int8] if INTERPRETED else [torch.int8, E4M3])
def test_tokens_lie_on_their_own_grids(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(5, 100) * torch.tensor([0.01, 1.0, 100.0, 3.0, 0.0])[:, None]
    values, scales = tokens_on_grid(inputs.to(DEVICE), dtype, SPANS[dtype])
    layer = EightBitLinear(torch.zeros(1, 100).to(dtype), torch.ones(1, 1))
    expected, expected_scales = layer.on_grid(inputs)
    assert torch.equal(scales.cpu(), expected_scales)
    assert torch.equal(values.cpu().float(), expected.float())
