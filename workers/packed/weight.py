"""A packed weight as it lies on disk, and what it stands for."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from workers.stored_forms.packing import unpack

FLOAT = 0


@dataclass(frozen=True, slots=True)
class PackedWeight:
    """A packed weight: the parts that lie on disk."""

    packed: torch.Tensor
    """Int32 (rows, words) in compressed-tensors' pack-quantized form, or float8 (rows, columns)."""
    scale: torch.Tensor
    """Shape (rows, groups)."""
    zero_point: torch.Tensor | None
    """Int32 (words of the rows, groups), or None."""
    bits: int
    """Bits of the integers, or FLOAT."""
    columns: int
    """Columns of the weight when unpacked."""

    @property
    def rows(self) -> int:
        return int(self.packed.shape[0])

    @property
    def group(self) -> int:
        """How many columns share a scale."""
        return self.columns // int(self.scale.shape[1])

    @property
    def unit(self) -> tuple[int, int]:
        """The fewest weights that fill whole words, and those words."""
        if self.bits == FLOAT:
            return 1, 1
        return (32, 3) if self.bits == 3 else (32 // self.bits, 1)

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        held = (self.packed, self.scale, self.zero_point)
        return tuple(tensor for tensor in held if tensor is not None)

    def dense(self) -> torch.Tensor:
        """The weight that is stored, float32 (rows, columns), by plain torch."""
        if self.bits == FLOAT:
            return self.packed.float() * self.scale.float()
        stored = {"weight_packed": self.packed, "weight_scale": self.scale}
        if self.zero_point is not None:
            stored["weight_zero_point"] = self.zero_point
        stored["weight_shape"] = torch.tensor([self.rows, self.columns])
        return unpack(stored, self.bits)[0]

    def chosen(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows of these numbers, float32, by plain torch; only symmetric grids, as embeddings have."""
        if self.zero_point is not None:
            raise ValueError("rows are chosen from symmetric grids alone")
        flat = rows.reshape(-1)
        some = PackedWeight(self.packed[flat], self.scale[flat], None, self.bits, self.columns)
        return some.dense().reshape(*rows.shape, self.columns)


def packed_weight(stored: dict[str, torch.Tensor], bits: int | None) -> PackedWeight:
    """From one weight's stored parts, named as on disk without the stem; raises ValueError for another form."""
    if "weight_packed" in stored and "weight_mask" not in stored and bits is not None:
        return PackedWeight(
            stored["weight_packed"],
            stored["weight_scale"],
            stored.get("weight_zero_point"),
            bits,
            int(stored["weight_shape"][1]),
        )
    weight = stored.get("weight")
    if weight is not None and weight.dtype == torch.float8_e4m3fn:
        return PackedWeight(weight, stored["weight_scale"], None, FLOAT, int(weight.shape[1]))
    raise ValueError(f"a weight stored as {', '.join(sorted(stored))} can't be kept packed")
