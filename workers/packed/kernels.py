"""Products with packed weights, and their decoding, as Triton kernels: weights are unpacked in registers.

A weight (rows, columns) lies in compressed-tensors' pack-quantized form as it is stored: int32 words along the
columns, a unit of `32 / bits` weights a word, or of 32 weights in three words at 3 bits; scales (rows, groups); zero
points packed along the rows. Weight j of each unit of a tile makes one matrix product with the inputs' columns that
belong to it, so no weight moves between threads after it is unpacked. Imported only where there is Triton.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from workers.packed import unpacking_asm as asm
from workers.packed.tiles import Tiles
from workers.packed.weight import FLOAT, PackedWeight

LOCKS = 1 << 17
DECODED_COLUMNS = 1024
_locks: dict[torch.device, torch.Tensor] = {}
PTX2 = tl.constexpr(asm.halves(2))
PTX3 = tl.constexpr(asm.runs_of_five())
PTX4 = tl.constexpr(asm.halves(4))
PTX8 = tl.constexpr(asm.whole_bytes())
REGISTERS4 = tl.constexpr(asm.constraints(4, 1))
REGISTERS8 = tl.constexpr(asm.constraints(8, 1))
REGISTERS16 = tl.constexpr(asm.constraints(16, 1))
REGISTERS32 = tl.constexpr(asm.constraints(32, 3))
FOUR = tl.constexpr((tl.bfloat16,) * 4)
EIGHT = tl.constexpr((tl.bfloat16,) * 8)
SIXTEEN = tl.constexpr((tl.bfloat16,) * 16)
THIRTY_TWO = tl.constexpr((tl.bfloat16,) * 32)


# A kernel for every number of input rows would be compiled otherwise: for 1, and for multiples of 16.
@triton.jit(do_not_specialize=["m"])
def _product(
    x,
    packed,
    scale,
    zero,
    bias,
    out,
    partial,
    locks,
    m,
    n,
    units,
    groups,
    sm,
    su,
    sj,
    BITS: tl.constexpr,
    GROUP: tl.constexpr,
    HAS_ZERO: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    PTX: tl.constexpr,
    EVEN: tl.constexpr,
    SPLITS: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    INPUTS: tl.constexpr,
    STAGES: tl.constexpr,
):
    PER: tl.constexpr = 32 if BITS == 3 else (1 if BITS == 0 else 32 // BITS)
    WORDS: tl.constexpr = 3 if BITS == 3 else 1
    tile, part, block = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    row = tile * ROWS + tl.arange(0, ROWS)
    its = block * INPUTS + tl.arange(0, INPUTS)
    # Past the end the last row is read again, and not stored.
    read_row = tl.minimum(row, n - 1)
    read_its = tl.minimum(its, m - 1)
    line = packed + read_row.to(tl.int64)[:, None] * (units * WORDS)
    # A step's columns lie in a few groups, or in a part of one: their scales are read a row at a time and spread over
    # the units by choice, so that every tile keeps the layout in which the words are read.
    CHANNEL: tl.constexpr = GROUP == 0
    STEP: tl.constexpr = UNITS * PER
    GROUPS: tl.constexpr = 1 if CHANNEL or GROUP > STEP else STEP // GROUP
    scales = scale + read_row * groups
    bit = read_row * BITS
    zeros = zero + (bit // 32) * groups
    its_group = tl.arange(0, UNITS) // (UNITS // GROUPS)
    inputs = x + read_its[None, :] * sm
    steps = tl.cdiv(units, UNITS)
    each = tl.cdiv(steps, SPLITS)
    # One input row needs no matrix unit: each thread adds up its units, and the threads' sums meet at the end.
    ALONE: tl.constexpr = INPUTS == 1
    sums = tl.zeros((ROWS, UNITS if ALONE else INPUTS), dtype=tl.float32)
    for step in tl.range(part * each, tl.minimum(part * each + each, steps), num_stages=STAGES):
        unit = step * UNITS + tl.arange(0, UNITS)
        here = unit < units
        if not EVEN:
            unit = tl.minimum(unit, units - 1)
        at = line + (unit * WORDS)[None, :]
        word = tl.load(at)
        group = 0 if CHANNEL else step * STEP // GROUP
        step_scale = tl.broadcast_to(tl.load(scales + group)[:, None], (ROWS, UNITS))
        if HAS_ZERO:
            origin = tl.broadcast_to(_zero_points(zeros + group, bit, groups, BITS)[:, None], (ROWS, UNITS))
        elif BITS == 0:
            origin = tl.zeros((ROWS, UNITS), dtype=tl.int32)
        else:
            origin = tl.full((ROWS, UNITS), 1 << (BITS - 1), dtype=tl.int32)
        for one in tl.static_range(1, GROUPS):
            other_group = tl.minimum(group + one, groups - 1)
            chosen = (its_group == one)[None, :]
            step_scale = tl.where(chosen, tl.load(scales + other_group)[:, None], step_scale)
            if HAS_ZERO:
                origin = tl.where(chosen, _zero_points(zeros + other_group, bit, groups, BITS)[:, None], origin)
        if BITS == 3:
            second = tl.load(at + 1)
            third = tl.load(at + 2)
        else:
            second = word
            third = word
        # The input's columns that weight j of each unit is for lie `sj` on from those of weight 0.
        column = x + block * sm + unit * su if ALONE else inputs + (unit * su)[:, None]
        live = here if ALONE else here[:, None]
        if PTX:
            offset = (-(origin + (0 if BITS == 8 else 128)).to(tl.float32)).to(tl.bfloat16)
            # Each width in a branch of its own: a branch that is not taken is not compiled.
            if BITS == 8:
                weights = tl.inline_asm_elementwise(PTX8, REGISTERS4, [word, step_scale, offset], FOUR, True, 2)
            elif BITS == 4:
                weights = tl.inline_asm_elementwise(PTX4, REGISTERS8, [word, step_scale, offset], EIGHT, True, 2)
            elif BITS == 2:
                weights = tl.inline_asm_elementwise(PTX2, REGISTERS16, [word, step_scale, offset], SIXTEEN, True, 2)
            else:
                weights = tl.inline_asm_elementwise(
                    PTX3, REGISTERS32, [word, second, third, step_scale, offset], THIRTY_TWO, True, 2
                )
            for j in tl.static_range(PER):
                values = tl.load(column + j * sj) if EVEN else tl.load(column + j * sj, mask=live, other=0.0)
                sums = _added(weights[j], values, sums, ALONE)
        else:
            spread = step_scale.to(tl.float32)
            base = origin.to(tl.float32)
            for j in tl.static_range(PER):
                values = tl.load(column + j * sj) if EVEN else tl.load(column + j * sj, mask=live, other=0.0)
                code = word.to(tl.float32) if BITS == 0 else _code(word, second, third, BITS, j).to(tl.float32)
                sums = _added(((code - base) * spread).to(values.dtype), values, sums, ALONE)
    if ALONE:
        sums = tl.sum(sums, axis=1)[:, None]
    inside = (row < n)[:, None] & (its < m)[None, :]
    if SPLITS > 1:
        # The programs of a tile leave their sums; the last of them to come adds them up, always in the same order.
        room = n * m
        place = its.to(tl.int64)[None, :] * n + row[:, None]
        tl.store(partial + part.to(tl.int64) * room + place, sums, mask=inside)
        tl.debug_barrier()
        lock = locks + block * tl.num_programs(0) + tile
        came = tl.atomic_add(lock, 1, sem="acq_rel")
        if came == SPLITS - 1:
            tl.store(lock, 0)
            total = tl.zeros((ROWS, INPUTS), dtype=tl.float32)
            for other in range(SPLITS):
                total += tl.load(
                    partial + other * room.to(tl.int64) + place, mask=inside, other=0.0, cache_modifier=".cg"
                )
            _finish(out, total, bias, row, its, n, inside, HAS_BIAS)
    else:
        _finish(out, sums, bias, row, its, n, inside, HAS_BIAS)


@triton.jit
def _added(weights, values, sums, ALONE: tl.constexpr):
    if ALONE:
        sums += weights.to(tl.float32) * values.to(tl.float32)[None, :]
    else:
        sums = tl.dot(weights, values, sums, input_precision="ieee")
    return sums


@triton.jit
def _finish(out, sums, bias, row, its, n, inside, HAS_BIAS: tl.constexpr):
    if HAS_BIAS:
        sums += tl.load(bias + row, mask=row < n, other=0.0).to(tl.float32)[:, None]
    tl.store(out + its.to(tl.int64)[None, :] * n + row[:, None], sums.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _code(first, second, third, BITS: tl.constexpr, j: tl.constexpr):
    """Weight j of each unit as an unsigned integer; at 3 bits two of them lie across two words."""
    START: tl.constexpr = j * BITS
    SHIFT: tl.constexpr = START % 32
    if START < 32:
        word, after = first, second
    elif START < 64:
        word, after = second, third
    else:
        word, after = third, third
    if SHIFT + BITS > 32:
        HELD: tl.constexpr = 32 - SHIFT
        low = (word >> SHIFT) & ((1 << HELD) - 1)
        code = low | ((after & ((1 << (BITS - HELD)) - 1)) << HELD)
    else:
        code = (word >> SHIFT) & ((1 << BITS) - 1)
    return code


@triton.jit
def _zero_points(pointer, bit, stride, BITS: tl.constexpr):
    """Zero points as unsigned integers; words lie `stride` apart along the packed rows."""
    shift = bit % 32
    code = (tl.load(pointer) >> shift) & ((1 << BITS) - 1)
    if BITS == 3:
        # An arithmetic shift fills with the sign: only the bits that the word has are kept.
        across = shift + 3 > 32
        low = tl.where(across, (1 << (32 - shift)) - 1, 7)
        after = tl.load(pointer + stride, mask=across, other=0)
        code = (code & low) | tl.where(across, (after << (32 - shift)) & 7, 0)
    return code


@triton.jit
def _decode(
    packed,
    scale,
    zero,
    chosen,
    out,
    columns,
    words,
    groups,
    first,
    BITS: tl.constexpr,
    GROUP: tl.constexpr,
    HAS_ZERO: tl.constexpr,
    CHOSEN: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    number = tl.program_id(0).to(tl.int64)
    row = tl.load(chosen + number).to(tl.int64) if CHOSEN else number + first
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    live = column < columns
    group = column // GROUP
    spread = tl.load(scale + row * groups + group, mask=live, other=0.0).to(tl.float32)
    if BITS == 0:
        code = tl.load(packed + row * words + column, mask=live, other=0.0).to(tl.float32)
    else:
        bit = column * BITS
        shift = bit % 32
        place = packed + row * words + bit // 32
        value = tl.load(place, mask=live, other=0)
        whole = (value >> shift) & ((1 << BITS) - 1)
        if BITS == 3:
            across = shift + 3 > 32
            low = tl.where(across, (1 << (32 - shift)) - 1, 7)
            after = tl.load(place + 1, mask=live & across, other=0)
            whole = (whole & low) | tl.where(across, (after << (32 - shift)) & 7, 0)
        code = whole.to(tl.float32)
        if HAS_ZERO:
            row_bit = row * BITS
            origin = _zero_points(zero + (row_bit // 32) * groups + group, row_bit + column * 0, groups, BITS)
            code -= origin.to(tl.float32)
        else:
            code -= 1 << (BITS - 1)
    tl.store(out + number * columns + column, (code * spread).to(out.dtype.element_ty), mask=live)


def product(x: torch.Tensor, weight: PackedWeight, bias: torch.Tensor | None, tiles: Tiles) -> torch.Tensor:
    """x (m, columns) times the transposed weight, plus the bias: (m, rows), in x's type.

    The weight's columns are whole units. Weights are rounded to x's type before they are multiplied, sums are float32.
    """
    m, n = x.shape[0], weight.rows
    per = weight.unit[0]
    units = weight.columns // per
    x = x.contiguous()
    strides = (x.stride(0), per, 1)
    if tiles.regroup and per > 1:
        x = x.view(m, units, per).transpose(1, 2).contiguous()
        strides = (x.stride(0), 1, units)
    out = torch.empty(m, n, dtype=x.dtype, device=x.device)
    grid = (triton.cdiv(n, tiles.rows), tiles.splits, triton.cdiv(m, tiles.inputs))
    partial = locks = out
    if tiles.splits > 1:
        partial = torch.empty(tiles.splits, m, n, dtype=torch.float32, device=x.device)
        locks = locks_on(x.device)
        if grid[0] * grid[2] > locks.numel():
            raise ValueError(f"a product of {m} by {n} in tiles of {tiles.rows} has more tiles than locks")
    ptx = (
        tiles.ptx and x.dtype == weight.scale.dtype == torch.bfloat16 and weight.bits != FLOAT and not torch.version.hip
    )
    _product[grid](
        x,
        weight.packed,
        weight.scale,
        weight.scale if weight.zero_point is None else weight.zero_point,
        out if bias is None else bias,
        out,
        partial,
        locks,
        m,
        n,
        units,
        weight.scale.shape[1],
        *strides,
        BITS=weight.bits,
        GROUP=0 if weight.scale.shape[1] == 1 else weight.group,
        HAS_ZERO=weight.zero_point is not None,
        HAS_BIAS=bias is not None,
        PTX=ptx,
        EVEN=units % tiles.units == 0,
        SPLITS=tiles.splits,
        ROWS=tiles.rows,
        UNITS=tiles.units,
        INPUTS=tiles.inputs,
        STAGES=tiles.stages,
        num_warps=tiles.warps,
        num_stages=tiles.stages,
    )
    return out


def decode(
    weight: PackedWeight, dtype: torch.dtype, rows: torch.Tensor | None = None, first: int = 0, count: int | None = None
) -> torch.Tensor:
    """Rows of the dense weight that is stored, rounded to this type once.

    rows: their numbers, any shape; the result has that shape and the columns. Else `count` rows from `first` on (all
    that follow, where count is None).
    """
    number = rows.numel() if rows is not None else (weight.rows - first if count is None else count)
    out = torch.empty(number, weight.columns, dtype=dtype, device=weight.packed.device)
    _decode[(number, triton.cdiv(weight.columns, DECODED_COLUMNS))](
        weight.packed,
        weight.scale,
        weight.scale if weight.zero_point is None else weight.zero_point,
        weight.scale if rows is None else rows.contiguous(),
        out,
        weight.columns,
        weight.packed.shape[1],
        weight.scale.shape[1],
        first,
        BITS=weight.bits,
        GROUP=weight.group,
        HAS_ZERO=weight.zero_point is not None,
        CHOSEN=rows is not None,
        COLUMNS=DECODED_COLUMNS,
        num_warps=4,
    )
    return out if rows is None else out.view(*rows.shape, weight.columns)


def locks_on(device: torch.device) -> torch.Tensor:
    """The device's counters of programs that share a tile, int32, all 0 between products; made at the first call."""
    found = _locks.get(device)
    if found is None:
        found = _locks[device] = torch.zeros(LOCKS, dtype=torch.int32, device=device)
    return found
