"""SparseGPT's inner loop as a Triton kernel: one launch a block of columns instead of three a column."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

ROWS = 16


def prune_block_on_gpu(
    left: torch.Tensor,
    factor: torch.Tensor,
    dead: torch.Tensor,
    keep: torch.Tensor,
    errors: torch.Tensor,
    start: int,
    stop: int,
    fours: bool,
) -> None:
    """Remove the columns [start, stop) one after another; those behind them in the block make up for each one's error.

    left: float32 (rows, columns), what is left of the weight; its block is written over. factor: U, float32 (columns,
    columns). dead: bool (columns,). keep: bool (rows, columns): says which weights stay, or with `fours` is told: two
    of every four, when their turn comes. errors: float32 (rows, width of a block), filled in.
    """
    rows, columns = left.shape
    _prune_block[(triton.cdiv(rows, ROWS),)](
        left,
        factor,
        dead.to(torch.int8),
        keep.view(torch.int8),
        errors,
        rows,
        columns,
        errors.stride(0),
        start,
        stop - start,
        FOURS=fours,
        BLOCK=triton.next_power_of_2(stop - start),
        ROWS=ROWS,
        num_warps=4,
    )


@triton.jit
def _prune_block(
    left,
    factor,
    dead,
    keep,
    errors,
    rows,
    columns,
    error_stride,
    start,
    width,
    FOURS: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = tl.arange(0, BLOCK)
    live = row < rows
    inside = live[:, None] & (column < width)[None, :]
    place = row[:, None] * columns + start + column[None, :]
    weights = tl.load(left + place, mask=inside, other=0.0)
    stays = tl.load(keep + place, mask=inside, other=0) != 0
    wrongs = tl.zeros((ROWS, BLOCK), dtype=tl.float32)
    diagonal = factor + start.to(tl.int64) * (columns + 1)
    for now in range(width):
        if FOURS and now % 4 == 0:
            at = now + tl.arange(0, 4)
            scores = _saliencies(weights, column, at, diagonal, dead, start, columns)
            # As many as score more, or as much and come before.
            more = scores[:, None, :] > scores[:, :, None]
            earlier = (scores[:, None, :] == scores[:, :, None]) & (at[None, :] < at[:, None])[None, :, :]
            rank = tl.sum((more | earlier).to(tl.int32), axis=2)
            chosen = tl.sum(
                tl.where(column[None, None, :] == at[None, :, None], (rank < 2).to(tl.int32)[:, :, None], 0), axis=1
            )
            its_four = (column >= now) & (column < now + 4)
            stays = tl.where(its_four[None, :], chosen != 0, stays)
        here = (column == now)[None, :]
        value = tl.sum(tl.where(here, weights, 0.0), axis=1)
        kept = tl.sum(tl.where(here, stays.to(tl.int32), 0), axis=1)
        across = factor + (start + now).to(tl.int64) * columns + start
        wrong = tl.where(kept != 0, 0.0, value) / tl.load(across + now)
        line = tl.load(across + column, mask=(column > now) & (column < width), other=0.0)
        weights -= wrong[:, None] * line[None, :]
        wrongs = tl.where(here, wrong[:, None], wrongs)
    tl.store(left + place, weights, mask=inside)
    tl.store(keep + place, stays.to(tl.int8), mask=inside)
    tl.store(errors + row[:, None] * error_stride + column[None, :], wrongs, mask=inside)


@triton.jit
def _saliencies(weights, column, at, diagonal, dead, start, columns):
    values = tl.sum(tl.where(column[None, None, :] == at[None, :, None], weights[:, None, :], 0.0), axis=2)
    scaled = values / tl.load(diagonal + at.to(tl.int64) * (columns + 1))[None, :]
    return tl.where((tl.load(dead + start + at) != 0)[None, :], -1.0, scaled * scaled)
