"""The decoder's attention kernels against plain torch: on a GPU as they ship, on a CPU with TRITON_INTERPRET=1."""

from __future__ import annotations

import os

import pytest
import torch

triton = pytest.importorskip("triton")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not INTERPRETED and not torch.cuda.is_available():
    pytest.skip("Triton's kernels need a GPU or TRITON_INTERPRET=1", allow_module_level=True)

import triton.language as tl  # noqa: E402

from workers.decoder.blueprint import Layer, Norm  # noqa: E402
from workers.decoder.engines import kernels  # noqa: E402
from workers.decoder.engines.launch import Places, decode_attention, prefill_attention  # noqa: E402

DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
HEADS, KV_HEADS, DIM = 4, 2, 24
LENGTHS = (1, 40, 7)
CASES = [(None, None), (50.0, None), (1.5, 9), (None, 9)]


@triton.jit
def tanh_kernel(x, out, count, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(out + at, kernels.tanh(tl.load(x + at, mask=at < count)), mask=at < count)


def layer(cap: float | None, window: int | None) -> Layer:
    norm = Norm(torch.ones(1, device=DEVICE), 1e-6)
    return Layer(
        norm, torch.nn.Identity(), None, None, torch.nn.Identity(), None, norm, torch.nn.Identity(),
        torch.nn.Identity(), None, HEADS, KV_HEADS, DIM, 0.2, cap, window, "", DEVICE,
    )  # fmt: skip


def drawn(*shape: int) -> torch.Tensor:
    # Large enough for scores far beyond the lower cap, small enough for those within it.
    return 3.0 * torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(DEVICE)


def pool() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Keys, values, and a table of three slots whose rows lie scattered."""
    rows = torch.randperm(128, generator=torch.Generator().manual_seed(1))[: 3 * 41]
    return drawn(128, KV_HEADS, DIM), drawn(128, KV_HEADS, DIM + 1)[..., :DIM].contiguous(), rows.view(3, 41).int()


def expected(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, row: torch.Tensor, position: int, like: Layer
) -> torch.Tensor:
    """One token's attention in float64; query (heads, dim)."""
    first = 0 if like.window is None else max(0, position + 1 - like.window)
    seen = row[first : position + 1].long().to(DEVICE)
    group = HEADS // KV_HEADS
    k, v = (part[seen].double().repeat_interleave(group, dim=1) for part in (keys, values))
    scores = torch.einsum("hd,thd->ht", query.double(), k) * like.scale
    if like.cap is not None:
        scores = like.cap * torch.tanh(scores / like.cap)
    return torch.einsum("ht,thd->hd", torch.softmax(scores, dim=-1), v).flatten()


def assert_close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert float((found.double() - wanted).abs().max()) < 2e-5


def test_tanh_is_right_to_the_last_bits_near_zero_too() -> None:
    x = torch.cat([torch.logspace(-8, 2, 500), torch.tensor([0.0, 0.6249, 0.625, 0.6251, 1e30, float("inf")])])
    x = torch.cat([x, -x]).to(DEVICE)
    out = torch.empty_like(x)
    tanh_kernel[(1,)](x, out, len(x), BLOCK=1024)
    wanted = torch.tanh(x.double())
    off = (out.double() - wanted).abs() / wanted.abs().clamp(min=1e-30)
    assert float(off.max()) < 4e-7


@pytest.mark.parametrize(("cap", "window"), CASES)
def test_a_new_token_attends_with_its_cap_and_window(cap: float | None, window: int | None) -> None:
    like, (keys, values, table) = layer(cap, window), pool()
    query = drawn(3, HEADS, DIM)
    positions = torch.tensor([length - 1 for length in LENGTHS], dtype=torch.int32)
    slots = torch.tensor([2, 0, 1], dtype=torch.int32)
    places = Places(slots.to(DEVICE), positions.to(DEVICE), table.to(DEVICE))
    found = decode_attention(like, query, keys, values, places)
    for at, slot in enumerate(slots.tolist()):
        assert_close(found[at], expected(query[at], keys, values, table[slot], int(positions[at]), like))


@pytest.mark.parametrize(("cap", "window"), CASES)
def test_prompts_end_to_end_attend_with_their_cap_and_window(cap: float | None, window: int | None) -> None:
    like, (keys, values, table) = layer(cap, window), pool()
    query = drawn(sum(LENGTHS), HEADS, DIM)
    starts = [0, LENGTHS[0], LENGTHS[0] + LENGTHS[1]]
    slots, begins, lengths = (torch.tensor(one, dtype=torch.int32).to(DEVICE) for one in ((1, 2, 0), starts, LENGTHS))
    found = prefill_attention(like, query, keys, values, table.to(DEVICE), slots, begins, lengths, max(LENGTHS))
    for slot, start, length in zip((1, 2, 0), starts, LENGTHS, strict=True):
        for position in range(length):
            at = start + position
            assert_close(found[at], expected(query[at], keys, values, table[slot], position, like))
