"""Triton kernels of the decoder: what stands between two matrix products, and attention over kept keys.

Roundings are where transformers has them, so that in bfloat16 outputs differ from `generate` only by the order of
sums. Keys and values of all sequences lie in one pool, a row a token; `table[slot, position]` is the row. Attention
reads real tokens only, with a running softmax (Dao et al. 2022, https://arxiv.org/abs/2205.14135) over rows found
through the table (Kwon et al. 2023, https://arxiv.org/abs/2309.06180, with pages of one token).
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def tanh(x):
    """In float32 to its last bits, also near 0, where 1 - 2 / (exp(2x) + 1) would leave few of them: a polynomial there
    (Cephes, tanhf, https://www.netlib.org/cephes/)."""
    square = x * x
    near = -5.70498872745e-3 * square + 2.06390887954e-2
    near = near * square - 5.37397155531e-2
    near = near * square + 1.33314422036e-1
    near = near * square - 3.33332819422e-1
    near = near * square * x + x
    size = tl.abs(x)
    far = 1.0 - 2.0 / (tl.exp(2.0 * size) + 1.0)
    return tl.where(size < 0.625, near, tl.where(x < 0.0, -far, far))


@triton.jit
def add_norm_kernel(
    x, residual, weight, normed, total, width, eps, ADD: tl.constexpr, OFFSET: tl.constexpr, BLOCK: tl.constexpr
):
    """A row a program: total = x + residual (with ADD), normed = RMSNorm(total)."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < width
    values = tl.load(x + row * width + at, mask=inside, other=0.0)
    if ADD:
        values = (
            values.to(tl.float32) + tl.load(residual + row * width + at, mask=inside, other=0.0).to(tl.float32)
        ).to(total.dtype.element_ty)
        tl.store(total + row * width + at, values, mask=inside)
    wide = values.to(tl.float32)
    scaled = wide * tl.rsqrt(tl.sum(wide * wide) / width + eps)
    weights = tl.load(weight + at, mask=inside, other=0.0)
    if OFFSET:
        out = scaled * weights.to(tl.float32)
    else:
        out = scaled.to(normed.dtype.element_ty).to(tl.float32) * weights.to(tl.float32)
    tl.store(normed + row * width + at, out.to(normed.dtype.element_ty), mask=inside)


@triton.jit
def gated_kernel(gate_up, out, width, GELU: tl.constexpr, BLOCK: tl.constexpr):
    """activation(gate) * up, where a row of gate_up holds the gate and then up; out (rows, width)."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width
    gate = tl.load(gate_up + row * 2 * width + at, mask=inside, other=0.0)
    up = tl.load(gate_up + row * 2 * width + width + at, mask=inside, other=0.0)
    wide = gate.to(tl.float32)
    if GELU:
        inner = 0.7978845608028654 * (wide + 0.044715 * wide * wide * wide)
        # tanh(z) = 2 * sigmoid(2z) - 1
        activated = 0.5 * wide * (1.0 + (2.0 / (1.0 + tl.exp(-2.0 * inner)) - 1.0))
    else:
        activated = wide / (1.0 + tl.exp(-wide))
    kept = activated.to(out.dtype.element_ty).to(tl.float32) * up.to(tl.float32)
    tl.store(out + row * width + at, kept.to(out.dtype.element_ty), mask=inside)


@triton.jit
def rotate_and_keep_kernel(
    qkv,
    cos,
    sin,
    q_weight,
    k_weight,
    query,
    keys,
    values,
    table,
    slots,
    positions,
    eps,
    TABLE_WIDTH,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    DIM: tl.constexpr,
    HEAD_BLOCK: tl.constexpr,
    HALF_BLOCK: tl.constexpr,
    NORM: tl.constexpr,
    OFFSET: tl.constexpr,
):
    """A token and some heads a program: norm (with NORM) and turn queries and keys; keys and values go to their row."""
    HALF: tl.constexpr = DIM // 2
    ALL: tl.constexpr = HEADS + 2 * KV_HEADS
    token = tl.program_id(0).to(tl.int64)
    heads = tl.program_id(1) * HEAD_BLOCK + tl.arange(0, HEAD_BLOCK)
    at = tl.arange(0, HALF_BLOCK)
    narrow = at < HALF
    inside = (heads < ALL)[:, None] & narrow[None, :]
    kind = qkv.dtype.element_ty
    source = qkv + token * ALL * DIM + heads[:, None] * DIM + at[None, :]
    low = tl.load(source, mask=inside, other=0.0)
    high = tl.load(source + HALF, mask=inside, other=0.0)
    position = tl.load(positions + token).to(tl.int64)
    row = tl.load(table + tl.load(slots + token).to(tl.int64) * TABLE_WIDTH + position).to(tl.int64)
    is_value = heads >= HEADS + KV_HEADS
    value_at = row * KV_HEADS * DIM + (heads - HEADS - KV_HEADS)[:, None] * DIM + at[None, :]
    tl.store(values + value_at, low, mask=inside & is_value[:, None])
    tl.store(values + value_at + HALF, high, mask=inside & is_value[:, None])
    if NORM:
        wide_low, wide_high = low.to(tl.float32), high.to(tl.float32)
        squares = tl.sum(wide_low * wide_low, axis=1) + tl.sum(wide_high * wide_high, axis=1)
        factor = tl.rsqrt(squares / DIM + eps)[:, None]
        of_query = (heads < HEADS)[:, None]
        weight_low = tl.where(
            of_query,
            tl.load(q_weight + at, mask=narrow, other=0.0)[None, :],
            tl.load(k_weight + at, mask=narrow, other=0.0)[None, :],
        ).to(tl.float32)
        weight_high = tl.where(
            of_query,
            tl.load(q_weight + HALF + at, mask=narrow, other=0.0)[None, :],
            tl.load(k_weight + HALF + at, mask=narrow, other=0.0)[None, :],
        ).to(tl.float32)
        if OFFSET:
            low = (wide_low * factor * weight_low).to(kind)
            high = (wide_high * factor * weight_high).to(kind)
        else:
            low = ((wide_low * factor).to(kind).to(tl.float32) * weight_low).to(kind)
            high = ((wide_high * factor).to(kind).to(tl.float32) * weight_high).to(kind)
    cos_low = tl.load(cos + position * DIM + at, mask=narrow, other=0.0).to(tl.float32)[None, :]
    cos_high = tl.load(cos + position * DIM + HALF + at, mask=narrow, other=0.0).to(tl.float32)[None, :]
    sin_low = tl.load(sin + position * DIM + at, mask=narrow, other=0.0).to(tl.float32)[None, :]
    sin_high = tl.load(sin + position * DIM + HALF + at, mask=narrow, other=0.0).to(tl.float32)[None, :]
    a, b = low.to(tl.float32), high.to(tl.float32)
    turned_low = ((a * cos_low).to(kind).to(tl.float32) - (b * sin_low).to(kind).to(tl.float32)).to(kind)
    turned_high = ((b * cos_high).to(kind).to(tl.float32) + (a * sin_high).to(kind).to(tl.float32)).to(kind)
    query_at = token * HEADS * DIM + heads[:, None] * DIM + at[None, :]
    is_query = inside & (heads < HEADS)[:, None]
    tl.store(query + query_at, turned_low, mask=is_query)
    tl.store(query + query_at + HALF, turned_high, mask=is_query)
    key_at = row * KV_HEADS * DIM + (heads - HEADS)[:, None] * DIM + at[None, :]
    is_key = inside & ((heads >= HEADS) & (heads < HEADS + KV_HEADS))[:, None]
    tl.store(keys + key_at, turned_low, mask=is_key)
    tl.store(keys + key_at + HALF, turned_high, mask=is_key)


@triton.jit
def decode_attention_kernel(
    query,
    keys,
    values,
    table,
    slots,
    positions,
    out,
    scale,
    TABLE_WIDTH,
    WINDOW,
    cap,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    DIM: tl.constexpr,
    DIM_BLOCK: tl.constexpr,
    BLOCK: tl.constexpr,
    CAPPED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One new token a sequence: a sequence and key head a program, all queries of that head at once."""
    token = tl.program_id(0).to(tl.int64)
    kv_head = tl.program_id(1)
    GROUP: tl.constexpr = HEADS // KV_HEADS
    # tl.dot takes no fewer than 16 rows.
    ROWS: tl.constexpr = 16 if GROUP <= 16 else (32 if GROUP <= 32 else 64)
    group = tl.arange(0, ROWS)
    dims = tl.arange(0, DIM_BLOCK)
    dim_inside = dims < DIM
    q_at = token * HEADS * DIM + (kv_head * GROUP + group)[:, None] * DIM + dims[None, :]
    q_inside = (group < GROUP)[:, None] & dim_inside[None, :]
    q = tl.load(query + q_at, mask=q_inside, other=0.0)
    rows = table + tl.load(slots + token).to(tl.int64) * TABLE_WIDTH
    end = tl.load(positions + token) + 1
    start = tl.maximum(end - WINDOW, 0)
    best = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    read = tl.zeros((ROWS, DIM_BLOCK), tl.float32)
    for block in range(start, end, BLOCK):
        at = block + tl.arange(0, BLOCK)
        seen = at < end
        row = tl.load(rows + at, mask=seen, other=0).to(tl.int64)
        kv_at = row[:, None] * KV_HEADS * DIM + kv_head * DIM + dims[None, :]
        kv_inside = seen[:, None] & dim_inside[None, :]
        k = tl.load(keys + kv_at, mask=kv_inside, other=0.0)
        v = tl.load(values + kv_at, mask=kv_inside, other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        if CAPPED:
            scores = cap * tanh(scores / cap)
        scores = tl.where(seen[None, :], scores, float("-inf"))
        higher = tl.maximum(best, tl.max(scores, axis=1))
        shrink = tl.exp(best - higher)
        weights = tl.exp(scores - higher[:, None])
        total = total * shrink + tl.sum(weights, axis=1)
        read = read * shrink[:, None] + tl.dot(weights.to(v.dtype), v, input_precision=PRECISION)
        best = higher
    tl.store(out + q_at, (read / total[:, None]).to(out.dtype.element_ty), mask=q_inside)


@triton.jit
def prefill_attention_kernel(
    query,
    keys,
    values,
    table,
    slots,
    starts,
    lengths,
    out,
    scale,
    TABLE_WIDTH,
    WINDOW,
    cap,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    DIM: tl.constexpr,
    DIM_BLOCK: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK: tl.constexpr,
    CAPPED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Prompts end to end in `query`, causal within each: a sequence, head and block of queries a program."""
    sequence = tl.program_id(0)
    head = tl.program_id(1)
    length = tl.load(lengths + sequence)
    first = tl.program_id(2) * BLOCK_Q
    if first < length:
        kv_head = head // (HEADS // KV_HEADS)
        q_position = first + tl.arange(0, BLOCK_Q)
        dims = tl.arange(0, DIM_BLOCK)
        dim_inside = dims < DIM
        start = tl.load(starts + sequence).to(tl.int64)
        q_at = (start + q_position)[:, None] * HEADS * DIM + head * DIM + dims[None, :]
        q_inside = (q_position < length)[:, None] & dim_inside[None, :]
        q = tl.load(query + q_at, mask=q_inside, other=0.0)
        rows = table + tl.load(slots + sequence).to(tl.int64) * TABLE_WIDTH
        best = tl.full((BLOCK_Q,), float("-inf"), tl.float32)
        total = tl.zeros((BLOCK_Q,), tl.float32)
        read = tl.zeros((BLOCK_Q, DIM_BLOCK), tl.float32)
        # A whole block before the first query's window would leave a row with nothing seen.
        begin = (tl.maximum(first + 1 - WINDOW, 0) // BLOCK) * BLOCK
        end = tl.minimum(first + BLOCK_Q, length)
        for block in range(begin, end, BLOCK):
            at = block + tl.arange(0, BLOCK)
            row = tl.load(rows + at, mask=at < length, other=0).to(tl.int64)
            kv_at = row[:, None] * KV_HEADS * DIM + kv_head * DIM + dims[None, :]
            kv_inside = (at < length)[:, None] & dim_inside[None, :]
            k = tl.load(keys + kv_at, mask=kv_inside, other=0.0)
            v = tl.load(values + kv_at, mask=kv_inside, other=0.0)
            scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
            if CAPPED:
                scores = cap * tanh(scores / cap)
            seen = (at[None, :] <= q_position[:, None]) & (at[None, :] > q_position[:, None] - WINDOW)
            scores = tl.where(seen & (at < length)[None, :], scores, float("-inf"))
            higher = tl.maximum(best, tl.max(scores, axis=1))
            # A row that has seen nothing yet has -inf for its best; it must not turn into NaN.
            base = tl.where(higher == float("-inf"), 0.0, higher)
            shrink = tl.exp(best - base)
            weights = tl.exp(scores - base[:, None])
            total = total * shrink + tl.sum(weights, axis=1)
            read = read * shrink[:, None] + tl.dot(weights.to(v.dtype), v, input_precision=PRECISION)
            best = higher
        total = tl.where(total == 0.0, 1.0, total)
        tl.store(out + q_at, (read / total[:, None]).to(out.dtype.element_ty), mask=q_inside)
