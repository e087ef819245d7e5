"""The exported loader decodes every stored form to the bits that this project decodes it to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from workers.checkpoints.adapters import AdapterSettings, LowRank, read_adapter, write_adapter
from workers.export import stored_weights
from workers.stored_forms import packing, quantization_config
from workers.stored_forms.integer_grid import QuantizedWeight, fit_grid, to_integers
from workers.stored_forms.quantization_config import WeightScheme

# With 8 rows or fewer and 4 bits, compressed-tensors can not read its own zero points.
SHAPES = ((10, 64), (33, 96), (17, 32))


def quantized(shape: tuple[int, int], bits: int, symmetric: bool, mask: torch.Tensor | None = None) -> QuantizedWeight:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(bits)) + 0.3
    grid = fit_grid(weight, bits, 32, symmetric)
    return QuantizedWeight(to_integers(weight, grid, bits), grid, bits, mask)


def half(shape: tuple[int, int]) -> torch.Tensor:
    """As many columns kept in each row, others in each."""
    order = torch.rand(shape, generator=torch.Generator().manual_seed(1)).argsort(dim=1)
    return order < shape[1] // 2


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("sparse", [False, True])
def test_packed_integers_are_decoded_alike(bits: int, symmetric: bool, sparse: bool) -> None:
    for shape in SHAPES:
        stored = dict(packing.pack("w", quantized(shape, bits, symmetric, half(shape) if sparse else None)))
        parts = {name.removeprefix("w."): tensor for name, tensor in stored.items()}
        assert torch.equal(stored_weights.decoded(dict(parts), bits), packing.unpack(parts, bits)[0])


def test_sparse_and_eight_bit_weights_are_decoded_alike() -> None:
    weight = torch.randn(7, 40).bfloat16()
    parts = {name.removeprefix("w."): one for name, one in packing.pack_sparse("w", weight, half((7, 40)))}
    assert torch.equal(stored_weights.decoded(dict(parts), None), packing.unpack(parts, None)[0])
    eight = {"weight": torch.randint(-128, 127, (7, 40), dtype=torch.int8), "weight_scale": torch.rand(7, 1).bfloat16()}
    assert torch.equal(stored_weights.decoded(dict(eight), None), packing.unpack(eight, None)[0])
    with pytest.raises(ValueError, match="no weight is stored as weight_shape"):
        stored_weights.decoded({"weight_shape": torch.tensor([1])}, None)


def test_the_width_of_a_weight_is_read_alike() -> None:
    stems = [f"model.layers.{layer}.mlp.{name}_proj" for layer in range(12) for name in ("up", "down")]
    schemes = {stem: WeightScheme(2 + number % 3, 32) for number, stem in enumerate(stems)}
    mixed = quantization_config.quantization_config(
        schemes | {"model.embed_tokens": WeightScheme(8, 32), "lm_head": WeightScheme(4, 32)}, []
    )
    uniform = quantization_config.quantization_config(dict.fromkeys(stems, WeightScheme(3, 32)), ["lm_head"])
    for record in ({"quantization_config": mixed}, {"quantization_config": uniform}, {}):
        for stem in (*stems, "model.embed_tokens", "lm_head", "model.norm"):
            assert stored_weights.bits_of(stem, record) == quantization_config.bits_of(stem, record)


def test_the_part_of_a_config_for_the_layers_is_cut_out_alike() -> None:
    eight = quantization_config.quantization_config(
        {"model.layers.0.mlp.up_proj": WeightScheme(8, activations=True)}, ["lm_head"]
    )
    added = quantization_config.with_embeddings(eight, {"model.embed_tokens": WeightScheme(4, 32)})
    ours = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    for record in (eight, added, quantization_config.with_embeddings(ours, {"lm_head": WeightScheme(4, 32)})):
        assert stored_weights.for_layers(record) == quantization_config.without_embeddings(record)
        assert stored_weights.runs_quantized(record)


@pytest.mark.parametrize("dora", [False, True])
def test_an_adapter_is_merged_alike(tmp_path: Path, dora: bool) -> None:
    low = LowRank(torch.randn(2, 8), torch.randn(6, 2), 1.5, torch.rand(6) if dora else None)
    write_adapter(tmp_path, {"model.layers.0.mlp.up_proj": low}, AdapterSettings(2, 3.0, 0.0, dora, ("up_proj",)))
    weight = torch.randn(6, 8).bfloat16()
    found = stored_weights.adapters(tmp_path, torch.device("cpu"))
    expected = read_adapter(tmp_path)
    assert found.keys() == expected.keys()
    for stem, adapter in expected.items():
        assert torch.equal(stored_weights.merged(weight, found[stem]), adapter.merged(weight))
