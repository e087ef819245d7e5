"""How the work of a packed product is cut for a GPU: a small table by the rows of the input."""

from __future__ import annotations

from dataclasses import dataclass

from workers.packed.weight import FLOAT, PackedWeight

# Programs enough to keep every multiprocessor of an H100 reading.
PROGRAMS = 528
MOST_SPLITS = 8
# By bits, for one input row: rows of the weight, units, warps, stages, regroup. The fastest of a sweep over matrices of
# 14336 x 4096 and 4096 x 4096 in groups of 64 on an H100.
ALONE = {
    8: (32, 64, 1, 4, False),
    4: (32, 64, 2, 4, True),
    3: (16, 32, 4, 4, False),
    2: (32, 32, 1, 3, True),
    FLOAT: (16, 256, 4, 4, False),
}
# By bits: units a step for a few input rows and for many.
UNITS = {8: (32, 32), 4: (32, 32), 3: (16, 16), 2: (16, 16), FLOAT: (128, 64)}
# Stages for many input rows: three of 3-bit weights are more than an H100's shared memory holds.
MANY_STAGES = {3: 2}

# Group sizes whose borders fall on those of every step.
GROUPS = (32, 64, 128)


@dataclass(frozen=True, slots=True)
class Tiles:
    """How the work is cut."""

    rows: int
    """Rows of the weight for each program."""
    units: int
    """Units of each row for each step."""
    inputs: int
    """Rows of the input for each program: 1, or 16 and more."""
    splits: int
    """Programs that share the columns."""
    warps: int
    """Warps of each program."""
    stages: int
    """Stages of the software pipeline."""
    ptx: bool = True
    """Unpack by PTX, two words at a time."""
    regroup: bool = False
    """First put the input's columns in the order of use, one copy, where many rows would be gathered."""


def kernel_takes(weight: PackedWeight) -> bool:
    """Whether the columns are whole units, and every step of the kernel whole groups or a whole part of one."""
    per, _ = weight.unit
    one_group = weight.group == weight.columns
    return weight.columns % per == 0 and (one_group or weight.group in GROUPS)


def tiles_for(inputs: int, weight: PackedWeight) -> Tiles:
    """The tiles for so many input rows."""
    few, many = UNITS[weight.bits]
    regroup = True
    if inputs == 1:
        rows, units, warps, stages, regroup = ALONE[weight.bits]
        block = 1
    elif inputs <= 16:
        rows, units, block, warps, stages = 32, few, 16, 2, 4
    else:
        rows, units, block, warps = 64, many, 32 if inputs <= 32 else 64, 4
        stages = MANY_STAGES.get(weight.bits, 3)
    blocks = -(-weight.rows // rows) * -(-inputs // block)
    steps = -(-weight.columns // (weight.unit[0] * units))
    splits = max(1, min(-(-PROGRAMS // blocks), MOST_SPLITS, steps // 2))
    return Tiles(
        rows=rows, units=units, inputs=block, splits=splits, warps=warps, stages=stages, ptx=True, regroup=regroup
    )
