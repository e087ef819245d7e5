"""The stored forms: bytes as worked out by hand, and what is read back is what was written."""

from __future__ import annotations

import re

import pytest
import torch

from search_spaces.sizes.quantized import packed_tensors
from search_spaces.sizes.tensor_table import Tensor
from workers.compression.quantization.rtn import quantize
from workers.stored_forms.integer_grid import Grid, QuantizedWeight
from workers.stored_forms.packing import kept_values, mask_bytes, mask_of, pack, pack_sparse, unpack
from workers.stored_forms.quantization_config import (
    WeightScheme,
    bits_of,
    patterns,
    quantization_config,
    with_embeddings,
    without_embeddings,
)

# Rows and columns that fill no whole 32-bit word or byte at most widths.
ROWS, COLUMNS = 37, 96
NAMES = {torch.int32: "I32", torch.bfloat16: "BF16", torch.int64: "I64", torch.uint8: "U8"}
QUERY, VALUE, OUT = ("self_attn.q_proj", "self_attn.v_proj", "self_attn.o_proj")


def random_mask(kept: int, rows: int = ROWS, columns: int = COLUMNS) -> torch.Tensor:
    torch.manual_seed(1)
    order = torch.rand(rows, columns).argsort(dim=1)
    return torch.zeros(rows, columns, dtype=torch.bool).scatter(1, order[:, :kept], True)


def stored_parts(weight: QuantizedWeight) -> dict[str, torch.Tensor]:
    return {name.removeprefix("stem."): tensor for name, tensor in pack("stem", weight)}


def test_four_bit_integers_lie_in_a_word_from_its_low_end_as_integer_plus_eight() -> None:
    weight = QuantizedWeight(
        torch.tensor([[-8, -7, 7, 0, 1, -1, 2, 3, 5, 0, 0, 0, 0, 0, 0, 0]], dtype=torch.int8),
        Grid(torch.ones(1, 1, dtype=torch.bfloat16), None),
        bits=4,
    )
    # Nibbles from the right: 0, 1, f, 8, 9, 7, a, b; then d and seven times 8.
    packed = stored_parts(weight)["weight_packed"]
    assert packed.dtype == torch.int32
    assert [word & 0xFFFFFFFF for word in packed[0].tolist()] == [0xBA798F10, 0x8888888D]


def test_a_mask_takes_a_bit_a_weight_the_first_column_lowest() -> None:
    mask = torch.tensor([[True, False, True, False, False, False, False, True, False, True]])
    assert mask_bytes(mask).tolist() == [[0b10000101, 0b00000010]]
    assert torch.equal(mask_of(mask_bytes(mask), mask.shape), mask)


@pytest.mark.parametrize("kept", [None, 48, 1, 95])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_a_quantized_weight_is_read_back_exactly_and_takes_the_predicted_tensors(
    bits: int, symmetric: bool, kept: int | None
) -> None:
    torch.manual_seed(0)
    mask = None if kept is None else random_mask(kept)
    for group_size in (32, -1):
        weight = quantize(torch.randn(ROWS, COLUMNS) + 0.2, bits, group_size, symmetric, mask)
        stored = stored_parts(weight)
        values, found = unpack(stored, bits)
        assert torch.equal(values, weight.dequantized())
        assert found is None if mask is None else found is not None and torch.equal(found, mask)
        if mask is not None:
            stored.pop("weight_mask")
        table = {name: Tensor(NAMES[tensor.dtype], tuple(tensor.shape)) for name, tensor in stored.items()}
        predicted = packed_tensors("stem", ROWS, COLUMNS, bits, group_size, symmetric, kept)
        assert table == {name.removeprefix("stem."): tensor for name, tensor in predicted}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_sparse_weight_is_read_back_exactly_in_its_own_type(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    mask = random_mask(40)
    # A kept weight may be zero.
    weight = torch.randn(ROWS, COLUMNS).to(dtype)
    weight[:, 0] = 0
    stored = {name.removeprefix("s."): tensor for name, tensor in pack_sparse("s", weight, mask)}
    assert stored["weight_values"].shape == (ROWS, 40)
    assert stored["weight_mask"].shape == (ROWS, 12)
    values, found = unpack(stored, None)
    assert found is not None
    assert values.dtype == dtype
    assert torch.equal(found, mask)
    assert torch.equal(values, weight * mask)


def test_values_of_a_byte_are_read_as_their_products_with_the_scale() -> None:
    scale = torch.tensor([[0.5], [2.0]], dtype=torch.bfloat16)
    integers = torch.tensor([[1, -128], [3, 127]], dtype=torch.int8)
    floats = torch.tensor([[1.5, -448.0], [0.0625, 2.0]]).to(torch.float8_e4m3fn)
    assert unpack({"weight": integers, "weight_scale": scale}, 8)[0].tolist() == [[0.5, -64.0], [6.0, 254.0]]
    assert unpack({"weight": floats, "weight_scale": scale}, 8)[0].tolist() == [[0.75, -224.0], [0.125, 4.0]]


def test_a_mask_whose_rows_keep_unlike_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="as many weights in every row"):
        kept_values(torch.zeros(2, 2), torch.tensor([[True, True], [True, False]]))


def test_tensors_of_no_known_form_are_refused() -> None:
    with pytest.raises(ValueError, match="no weight is stored as weight_scale"):
        unpack({"weight_scale": torch.ones(1)}, 4)


def test_patterns_match_their_stems_alone() -> None:
    stems = [f"model.layers.{layer}.{name}" for layer in range(12) for name in (QUERY, VALUE, OUT)]
    chosen = [f"model.layers.{layer}.{QUERY}" for layer in (1, 11)] + [f"model.layers.2.{OUT}"]
    found = patterns(chosen)
    assert found == [r"re:.*layers\.(2)\.self_attn\.o_proj$", r"re:.*layers\.(1|11)\.self_attn\.q_proj$"]
    matched = [stem for stem in stems if any(re.match(pattern[3:], stem) for pattern in found)]
    assert sorted(matched) == sorted(chosen)


def test_widths_are_found_for_layers_embeddings_and_head_of_mixed_schemes() -> None:
    schemes = {
        f"model.layers.0.{QUERY}": WeightScheme(4, 64),
        f"model.layers.1.{QUERY}": WeightScheme(3, 64),
        f"model.layers.0.{OUT}": WeightScheme(3, 64),
        f"model.layers.1.{OUT}": WeightScheme(2, -1, symmetric=False),
    }
    head = {"model.embed_tokens": WeightScheme(8, 64), "lm_head": WeightScheme(4, 64)}
    layers = quantization_config(schemes, ["lm_head", "model.layers.0.gate"])
    both = with_embeddings(layers, head)
    expected = {stem: scheme.bits for stem, scheme in {**schemes, **head}.items()}
    at_once = quantization_config({**schemes, **head}, ["lm_head", "model.layers.0.gate"])
    for config in (both, at_once):
        assert {stem: bits_of(stem, {"quantization_config": config}) for stem in expected} == expected
        assert config["ignore"] == ["model.layers.0.gate"]
        assert bits_of("model.layers.0.gate", {"quantization_config": config}) is None
    assert without_embeddings(both) == layers
    assert without_embeddings(at_once)["config_groups"].keys() == layers["config_groups"].keys()
    assert bits_of("lm_head", {"quantization_config": layers}) is None


def test_one_scheme_for_all_layers_is_named_by_their_class_and_embeddings_by_theirs() -> None:
    layers = {f"model.layers.{layer}.{QUERY}": WeightScheme(4, 64) for layer in range(3)}
    both = quantization_config({**layers, "model.embed_tokens": WeightScheme(4, 64)}, ["lm_head"])
    assert [group["targets"] for group in both["config_groups"].values()] == [["Linear", "Embedding"]]
    config = {"quantization_config": both}
    assert bits_of("model.embed_tokens", config) == bits_of(f"model.layers.2.{QUERY}", config) == 4
    # A tied or unquantized head is none of the weights that "Linear" is said of.
    assert bits_of("lm_head", config) is None
    assert without_embeddings(both) == quantization_config(layers, ["lm_head"])
