"""Cross-entropy and forward KL with the gradient of the logits as a Triton kernel: logits are read twice, and nothing
of their size but the gradient is written. Imported only where there is Triton."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

BLOCK = 4096
WARPS = 8
# Below any logit, and its difference to itself is a number.
LEAST = tl.constexpr(-3e38)


def token_losses(
    logits: torch.Tensor, teacher: torch.Tensor | None, ids: torch.Tensor | None, share: float, wants_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(1 − share) · KL(teacher ‖ student) + share · −log q(id) of each token, float32 (n,), and its gradient with
    respect to the logits, (n, vocabulary) in their type, where it is wanted.

    logits, teacher: (n, vocabulary). ids: int64 (n,), needed for a share above 0. Without a teacher the share is 1.
    """
    tokens, vocabulary = logits.shape
    losses = torch.empty(tokens, dtype=torch.float32, device=logits.device)
    gradient = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device) if wants_gradient else None
    if tokens:
        logits = logits.contiguous()
        _losses[(tokens,)](
            logits,
            logits if teacher is None else teacher.contiguous(),
            losses if ids is None else ids.contiguous(),
            losses,
            logits if gradient is None else gradient,
            vocabulary,
            float(share),
            HAS_TEACHER=teacher is not None,
            HAS_IDS=share > 0,
            HAS_GRADIENT=wants_gradient,
            BLOCK=min(BLOCK, triton.next_power_of_2(vocabulary)),
            num_warps=WARPS,
        )
    return losses, gradient


@triton.jit
def _losses(
    student,
    teacher,
    ids,
    losses,
    gradient,
    vocabulary,
    share,
    HAS_TEACHER: tl.constexpr,
    HAS_IDS: tl.constexpr,
    HAS_GRADIENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    ours = student + token * vocabulary
    theirs = teacher + token * vocabulary
    slopes = gradient + token * vocabulary
    # Each lane keeps the largest logit it has seen, and the sum of exponentials below it.
    q_top = tl.full((BLOCK,), LEAST, dtype=tl.float32)
    q_sum = tl.zeros((BLOCK,), dtype=tl.float32)
    p_top = tl.full((BLOCK,), LEAST, dtype=tl.float32)
    p_sum = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, vocabulary, BLOCK):
        column = start + tl.arange(0, BLOCK)
        live = column < vocabulary
        q = tl.load(ours + column, mask=live, other=LEAST).to(tl.float32)
        top = tl.maximum(q_top, q)
        q_sum = q_sum * tl.exp(q_top - top) + tl.where(live, tl.exp(q - top), 0.0)
        q_top = top
        if HAS_TEACHER:
            p = tl.load(theirs + column, mask=live, other=LEAST).to(tl.float32)
            top = tl.maximum(p_top, p)
            p_sum = p_sum * tl.exp(p_top - top) + tl.where(live, tl.exp(p - top), 0.0)
            p_top = top
    q_whole = _log_sum(q_top, q_sum)
    loss = 0.0
    if HAS_IDS:
        chosen = tl.load(ids + token)
        loss = share * (q_whole - tl.load(ours + chosen).to(tl.float32))
    if HAS_TEACHER:
        p_whole = _log_sum(p_top, p_sum)
    if HAS_TEACHER or HAS_GRADIENT:
        apart = tl.zeros((BLOCK,), dtype=tl.float32)
        for start in range(0, vocabulary, BLOCK):
            column = start + tl.arange(0, BLOCK)
            live = column < vocabulary
            log_q = tl.load(ours + column, mask=live, other=0.0).to(tl.float32) - q_whole
            slope = tl.exp(log_q)
            if HAS_TEACHER:
                log_p = tl.load(theirs + column, mask=live, other=0.0).to(tl.float32) - p_whole
                p = tl.exp(log_p)
                apart += tl.where(live, p * (log_p - log_q), 0.0)
                slope -= (1.0 - share) * p
            if HAS_IDS:
                slope -= tl.where(column == chosen, share, 0.0)
            if HAS_GRADIENT:
                tl.store(slopes + column, slope.to(gradient.dtype.element_ty), mask=live)
        if HAS_TEACHER:
            loss += (1.0 - share) * tl.sum(apart, axis=0)
    tl.store(losses + token, loss)


@triton.jit
def _log_sum(top, total):
    """log Σ exp of what lanes have seen."""
    most = tl.max(top, axis=0)
    return most + tl.log(tl.sum(total * tl.exp(top - most), axis=0))
