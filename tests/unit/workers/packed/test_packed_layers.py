"""Packed layers against the dense weights they stand for: rows, products, embeddings, layers side by side."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from tests.support.dense_reference import e4m3_tokens, int8_tokens
from tests.support.packed_weights import COLUMNS, ROWS, kept, parts, quantized
from workers.compression.quantization import fp8, w8a8
from workers.packed.eight_bit import EightBitLinear, why_not
from workers.packed.linear import PackedEmbedding, PackedLinear, side_by_side
from workers.packed.tiles import GROUPS, KERNEL_INPUTS, kernel_takes, multiplies_packed, tiles_for
from workers.packed.weight import FLOAT, PackedWeight, packed_weight


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group_size", [32, 64, 128, -1])
@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_a_layer_computes_what_its_dense_weight_does(bits: int, group_size: int, symmetric: bool) -> None:
    weight = quantized(bits, group_size, symmetric)
    held = kept(weight)
    assert torch.equal(held.dense(), weight.dequantized())
    assert held.group == (COLUMNS if group_size == -1 else group_size)
    assert kernel_takes(held)
    inputs, bias = torch.randn(2, 3, COLUMNS), torch.randn(ROWS)
    found = PackedLinear(held, bias)(inputs)
    assert torch.equal(found, functional.linear(inputs, weight.dequantized(), bias))


@pytest.mark.parametrize("bits", [8, 4])
def test_embeddings_are_the_rows_asked_for_times_the_factor_in_the_models_type(bits: int) -> None:
    weight = quantized(bits)
    ids = torch.tensor([[0, 47, 3], [3, 3, 1]])
    found = PackedEmbedding(kept(weight), torch.float32)(ids)
    assert torch.equal(found, functional.embedding(ids, weight.dequantized()))
    rounded = PackedEmbedding(kept(weight), torch.bfloat16, factor=64**0.5 * 1.1)(ids)
    factor = torch.tensor(64**0.5 * 1.1).to(torch.bfloat16)
    assert torch.equal(rounded, functional.embedding(ids, weight.dequantized().to(torch.bfloat16)) * factor)


def test_layers_side_by_side_are_one_whose_tensors_they_share() -> None:
    for symmetric in (True, False):
        layers = [PackedLinear(kept(quantized(3, 64, symmetric, rows, seed=rows))) for rows in (64, 32, 40)]
        inputs = torch.randn(5, COLUMNS)
        expected = torch.cat([layer(inputs) for layer in layers], dim=-1)
        joined = side_by_side(layers)
        assert joined is not None
        assert torch.equal(joined(inputs), expected)
        assert torch.equal(torch.cat([layer(inputs) for layer in layers], dim=-1), expected)
        start = joined.packed.data_ptr()
        assert [layer.packed.data_ptr() - start for layer in layers] == [
            rows * joined.packed.stride(0) * 4 for rows in (0, 64, 96)
        ]


def test_layers_packed_unlike_do_not_stand_side_by_side() -> None:
    four = PackedLinear(kept(quantized(4)))
    assert side_by_side([four, PackedLinear(kept(quantized(3)))]) is None
    assert side_by_side([four, PackedLinear(kept(quantized(4, 32)))]) is None
    assert side_by_side([four, PackedLinear(kept(quantized(4)), torch.zeros(ROWS))]) is None
    assert side_by_side([four, torch.nn.Linear(COLUMNS, ROWS)]) is None
    # 20 zero points of 3 bits end within a word, so that what follows can't be joined to them.
    unaligned = [PackedLinear(kept(quantized(3, 64, False, 20, seed=seed))) for seed in (1, 2)]
    assert side_by_side(unaligned) is None


def test_fp8_weights_alone_are_multiplied_as_they_stand() -> None:
    torch.manual_seed(0)
    stored = fp8.quantize(torch.randn(ROWS, COLUMNS))
    held = packed_weight({"weight": stored.values, "weight_scale": stored.scale}, 8)
    assert held.bits == FLOAT
    inputs = torch.randn(4, COLUMNS)
    assert torch.equal(PackedLinear(held)(inputs), functional.linear(inputs, stored.dequantized()))


@pytest.mark.parametrize(("method", "tokens"), [(fp8, e4m3_tokens), (w8a8, int8_tokens)])
def test_eight_bit_inputs_lie_on_their_tokens_grids(method: Any, tokens: Any) -> None:
    torch.manual_seed(0)
    stored = method.quantize(torch.randn(ROWS, COLUMNS))
    bias = torch.randn(ROWS)
    inputs = torch.randn(2, 3, COLUMNS) * torch.tensor([0.01, 1.0, 100.0])[:, None]
    inputs[0, 0] = 0
    layer = EightBitLinear(stored.values, stored.scale, bias)
    expected = functional.linear(tokens(inputs), stored.dequantized(), bias)
    torch.testing.assert_close(layer(inputs), expected, rtol=1e-5, atol=1e-5)


def test_shapes_that_torch_has_no_eight_bit_product_for_are_said() -> None:
    assert why_not(64, 128, torch.int8) is None
    assert why_not(64, 128, fp8.E4M3) is None
    assert "multiples of 8" in str(why_not(60, 128, torch.int8))
    assert "multiples of 16" in str(why_not(64, 136, fp8.E4M3))


def test_kernels_leave_alone_what_fills_no_whole_units_or_odd_groups() -> None:
    assert not kernel_takes(kept(quantized(4, -1, columns=100)))
    assert not kernel_takes(kept(quantized(4, 96, columns=192)))
    assert 96 not in GROUPS


def test_small_weights_are_decoded_for_more_than_one_row_of_input() -> None:
    def of(rows: int, columns: int) -> PackedWeight:
        return PackedWeight(torch.zeros(rows, columns // 8), torch.zeros(rows, columns // 64), None, 4, columns)

    small, short, large = of(896, 4864), of(57_344, 896), of(4096, 4096)
    for weight in (small, short):
        assert multiplies_packed(1, weight) and not multiplies_packed(2, weight)
        # Many programs of few rows.
        assert tiles_for(1, weight).rows < tiles_for(1, large).rows
    assert multiplies_packed(KERNEL_INPUTS, large) and not multiplies_packed(KERNEL_INPUTS + 1, large)
    assert not multiplies_packed(1, of(64, 100))


def test_sparse_and_unknown_forms_are_not_kept_packed() -> None:
    stored = parts(quantized(4)) | {"weight_mask": torch.zeros(ROWS, COLUMNS // 8, dtype=torch.uint8)}
    with pytest.raises(ValueError, match="can't be kept packed"):
        packed_weight(stored, 4)
    with pytest.raises(ValueError, match="can't be kept packed"):
        packed_weight({"weight": torch.zeros(2, 2, dtype=torch.int8), "weight_scale": torch.ones(2, 1)}, 8)
