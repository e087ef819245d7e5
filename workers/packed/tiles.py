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
# A matrix of at most so many weights, or of so many columns, keeps no GPU busy in tiles that suit the others.
SMALL_WEIGHTS = 12 * 2**20
SHORT_COLUMNS = 1024
# By bits, for one input row and such a matrix: the same, of 1152 x 896, 896 x 896, 9728 x 896 and 896 x 4864 on an H200
# (4 bits: 3.7, 3.3, 8.9 and 6.3 us; the tiles above: 14.9, 14.9, 29.3 and 23.9). Their 8 bits as 4 bits'.
ALONE_SMALL = {
    8: (8, 32, 4, 3, False),
    4: (8, 32, 4, 3, False),
    3: (8, 16, 1, 3, False),
    2: (8, 16, 1, 3, False),
    FLOAT: ALONE[FLOAT],
}
# Of more input rows than these a weight is decoded first, some rows at a time, and multiplied by the dense engine. A
# small one is from two rows on: 64 rows of input by 9728 x 896 took 12.9 us at 4 bits and 18.0 at 3 (H200), the kernel
# in its best tiles 14.6 and 36.4.
KERNEL_INPUTS = 128
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


def multiplies_packed(inputs: int, weight: PackedWeight) -> bool:
    """Whether so many input rows are multiplied with the weight as it is packed, rather than decoded first."""
    return kernel_takes(weight) and inputs <= (1 if is_small(weight) else KERNEL_INPUTS)


def is_small(weight: PackedWeight) -> bool:
    """Whether the weight has too little work for the tiles of large ones."""
    return weight.columns <= SHORT_COLUMNS or weight.rows * weight.columns <= SMALL_WEIGHTS


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
        rows, units, warps, stages, regroup = (ALONE_SMALL if is_small(weight) else ALONE)[weight.bits]
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
