"""The stored forms of a compressed weight: packed integers, 8-bit values, a mask and what it keeps; both ways.

Packed integers have compressed-tensors' pack-quantized form, so transformers and vLLM read them. A sparse weight is
ours: `weight_mask`, a bit a weight (little-endian in a byte), and the kept weights of each row, in column order, as
`weight_values` or, quantized, as `weight_packed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from workers.stored_forms.integer_grid import Grid, QuantizedWeight

Tensors = Mapping[str, torch.Tensor]


def pack(stem: str, weight: QuantizedWeight) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors that stand for one quantized weight on disk."""
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    integers = weight.integers
    if weight.mask is not None:
        yield f"{stem}.weight_mask", mask_bytes(weight.mask)
        integers = kept_values(integers, weight.mask)
    yield f"{stem}.weight_packed", pack_to_int32(integers.to(torch.int8), weight.bits)
    yield f"{stem}.weight_scale", weight.grid.scale
    if weight.grid.zero_point is not None:
        zero_point = pack_to_int32(weight.grid.zero_point, weight.bits, packed_dim=0)
        yield f"{stem}.weight_zero_point", zero_point.contiguous()
    yield f"{stem}.weight_shape", torch.tensor(weight.integers.shape)


def pack_sparse(stem: str, weight: torch.Tensor, mask: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors that stand for one sparse weight on disk; mask: bool (rows, columns), as many kept in every row."""
    yield f"{stem}.weight_mask", mask_bytes(mask)
    yield f"{stem}.weight_values", kept_values(weight, mask)
    yield f"{stem}.weight_shape", torch.tensor(weight.shape)


def unpack(stored: Tensors, bits: int | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """One weight from its stored tensors (names without the stem, such as `weight_packed`), and its mask if it has one.

    The weight is float32 where it was quantized, else of its stored type. bits: of packed integers. Raises ValueError
    for tensors that are none of the stored forms.
    """
    if "weight_packed" in stored and bits is not None:
        weight = unpack_grid(stored, bits)
        return weight.dequantized(), weight.mask
    if "weight_values" in stored:
        shape = torch.Size(stored["weight_shape"].tolist())
        mask = mask_of(stored["weight_mask"], shape)
        return scatter_values(stored["weight_values"], mask), mask
    if "weight" in stored and "weight_scale" in stored:
        return stored["weight"].float() * stored["weight_scale"].float(), None
    raise ValueError(f"no weight is stored as {', '.join(sorted(stored))}")


def unpack_grid(stored: Tensors, bits: int) -> QuantizedWeight:
    """One weight of packed integers from its stored tensors (names without the stem)."""
    from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32

    shape = torch.Size(stored["weight_shape"].tolist())
    mask = mask_of(stored["weight_mask"], shape) if "weight_mask" in stored else None
    packed = shape if mask is None else torch.Size([shape[0], int(mask[0].sum())])
    integers = unpack_from_int32(stored["weight_packed"], bits, packed)
    if mask is not None:
        integers = scatter_values(integers, mask)
    zero = stored.get("weight_zero_point")
    scale = stored["weight_scale"]
    if zero is not None:
        zero = unpack_from_int32(zero, bits, scale.shape, packed_dim=0)
    return QuantizedWeight(integers, Grid(scale, zero), bits, mask)


def mask_bytes(mask: torch.Tensor) -> torch.Tensor:
    """A bool mask (rows, columns) as uint8 (rows, ceil(columns / 8)), the first column in the lowest bit."""
    rows, columns = mask.shape
    padded = torch.nn.functional.pad(mask, (0, -columns % 8)).reshape(rows, -1, 8)
    weights = torch.tensor([1 << bit for bit in range(8)], dtype=torch.uint8, device=mask.device)
    return (padded * weights).sum(dim=-1, dtype=torch.uint8)


def mask_of(stored: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The bool mask of this shape that `mask_bytes` stored."""
    bits = torch.arange(8, dtype=torch.uint8, device=stored.device)
    return ((stored[..., None] >> bits) & 1).bool().reshape(shape[0], -1)[:, : shape[1]]


def kept_values(weight: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The kept weights of each row, (rows, kept); raises ValueError when the rows keep unlike numbers."""
    kept = mask.sum(dim=1)
    if not bool((kept == kept[0]).all()):
        raise ValueError("a sparse weight is stored with as many weights in every row, and this mask is not so")
    return weight[mask].reshape(weight.shape[0], int(kept[0]))


def scatter_values(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The dense weight whose kept values these are; zeros elsewhere."""
    dense = torch.zeros(mask.shape, dtype=values.dtype, device=values.device)
    dense[mask] = values.reshape(-1)
    return dense
