"""What training minimises, token by token: cross-entropy, and divergences from a teacher's whole distribution.

Arithmetic is float32 (float64 for float64 logits) at temperature 1, over some rows at a time. The gradient with respect
to the logits is worked out along with the loss and kept in the logits' own type, so that a large vocabulary costs one
tensor of its size, not several of float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from workers.training.fused.modules import runs_kernels

# The skew of DistiLLM's KL: its α (Ko et al. 2024, §3.1 and Figure 3).
SKEW = 0.1
# Float32 values of so many bytes are worked on at a time.
_ROWS_BYTES = 64 * 2**20

# (log q of the student, log p of the teacher), both (rows, vocabulary) -> losses (rows,), d loss / d logits.
Divergence = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def cross_entropy(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """−log q(id) of each token, in nats. logits: (n, vocabulary). ids: int64 (n,). Answers (n,)."""
    losses: torch.Tensor = _TokenLoss.apply(logits, None, ids, None, 1.0)
    return losses


def forward_kl(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """KL(teacher ‖ student) of each token, in nats (Hinton et al. 2015, https://arxiv.org/abs/1503.02531).

    student, teacher: logits (n, vocabulary); only the student's get a gradient. Answers (n,).
    """
    return divergence("forward_kl", student, teacher)


def reverse_kl(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """KL(student ‖ teacher) of each token, in nats (MiniLLM, Gu et al. 2023, https://arxiv.org/abs/2306.08543).

    Shapes as in `forward_kl`.
    """
    return divergence("reverse_kl", student, teacher)


def skew_kl(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """KL(p ‖ α p + (1 − α) q) of each token, p the teacher, q the student, α `SKEW`, in nats.

    DistiLLM, Ko et al. 2024, https://arxiv.org/abs/2402.03898. Shapes as in `forward_kl`.
    """
    return divergence("skew_kl", student, teacher)


def divergence(
    name: str, student: torch.Tensor, teacher: torch.Tensor, ids: torch.Tensor | None = None, share: float = 0.0
) -> torch.Tensor:
    """(1 − share) · the divergence of this name + share · cross-entropy on ids, in one tensor of gradients.

    name: a key of `DIVERGENCES`. Shapes as in `forward_kl` and `cross_entropy`. Raises ValueError for logits of
    different shapes, and for a share without ids.
    """
    if student.shape != teacher.shape:
        raise ValueError(f"the student's logits are {tuple(student.shape)}, the teacher's {tuple(teacher.shape)}")
    if share and ids is None:
        raise ValueError(f"a share of {share} of cross-entropy needs the reference's ids")
    losses: torch.Tensor = _TokenLoss.apply(student, teacher, ids, DIVERGENCES[name], share)
    return losses


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type that losses are worked out in: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def row_slices(logits: torch.Tensor) -> list[slice]:
    """The rows of (n, vocabulary) logits, as many together as are worked on at a time; one empty slice for none."""
    rows = max(_ROWS_BYTES // (4 * max(logits.shape[1], 1)), 1)
    return [slice(start, start + rows) for start in range(0, max(logits.shape[0], 1), rows)]


def _forward(log_q: torch.Tensor, log_p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    p = log_p.exp()
    losses = (log_p - log_q).mul_(p).sum(-1)
    return losses, log_q.exp().sub_(p)


def _reverse(log_q: torch.Tensor, log_p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    q = log_q.exp()
    ratio = log_q - log_p
    losses = (q * ratio).sum(-1)
    return losses, ratio.sub_(losses[:, None]).mul_(q)


def _skew(log_q: torch.Tensor, log_p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    # loss = Σ p (log p − log m); d loss / d q = −w with w = (1 − α) p / m, and softmax gives q (Σ q w − w).
    ratio = log_p - torch.logaddexp(log_p + math.log(SKEW), log_q + math.log1p(-SKEW))
    losses = (log_p.exp() * ratio).sum(-1)
    weights = ratio.exp_().mul_(1 - SKEW)
    q = log_q.exp()
    mean = (q * weights).sum(-1, keepdim=True)
    return losses, q.mul_(mean - weights)


DIVERGENCES: dict[str, Divergence] = {"forward_kl": _forward, "reverse_kl": _reverse, "skew_kl": _skew}


class _TokenLoss(torch.autograd.Function):
    """Losses (n,) of logits (n, vocabulary); the gradient is made in the forward and only scaled in the backward."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        teacher: torch.Tensor | None,
        ids: torch.Tensor | None,
        formula: Divergence | None,
        share: float,
    ) -> torch.Tensor:
        if runs_kernels(logits.device) and formula in (None, _forward) and logits.dtype != torch.float64:
            from workers.training.fused.loss_kernels import token_losses

            share = 1.0 if formula is None else share
            losses, gradient = token_losses(logits, teacher, ids if share else None, share, ctx.needs_input_grad[0])
            ctx.save_for_backward(gradient)
            return losses
        losses = torch.empty(logits.shape[0], dtype=wide(logits.dtype), device=logits.device)
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        for rows in row_slices(logits):
            log_q = torch.log_softmax(logits[rows], dim=-1, dtype=losses.dtype)
            part: torch.Tensor | None = None
            if formula is not None and teacher is not None:
                log_p = torch.log_softmax(teacher[rows], dim=-1, dtype=losses.dtype)
                losses[rows], part = formula(log_q, log_p)
            if share and ids is not None:
                found, slope = _cross_entropy(log_q, ids[rows, None])
                losses[rows] = found if part is None else losses[rows].mul_(1 - share).add_(found, alpha=share)
                part = slope if part is None else part.mul_(1 - share).add_(slope, alpha=share)
            if gradient is not None and part is not None:
                gradient[rows] = part
        ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # In place: autograd refuses a second backward, as the saved tensor's version has changed.
        (gradient,) = ctx.saved_tensors
        return gradient.mul_(upstream[:, None]), None, None, None, None


def _cross_entropy(log_q: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses and gradient; ids: (rows, 1)."""
    losses = -log_q.gather(1, ids)[:, 0]
    slope = log_q.exp()
    return losses, slope.scatter_add_(1, ids, torch.full_like(ids, -1, dtype=slope.dtype))
