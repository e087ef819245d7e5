"""Divergences from a teacher of which only the likeliest tokens are known, and the mass of all the others together.

Teacher and student are compared over k + 1 outcomes: the teacher's k likeliest tokens, and "any other token". Both keep
their whole mass, so each loss is that of two true distributions; by the data processing inequality a KL over these
outcomes is never more than over the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from workers.training.losses.divergences import SKEW, row_slices, wide

# (log q of the student, log p of the teacher), both (n, outcomes) -> (n,), by plain autograd.
Bucketed = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Likeliest:
    """What a teacher says of n tokens. ids: int64 (n, k), distinct in each row. logs: float32 (n, k), their
    log-probabilities. tail: float32 (n,), log of the others' mass; None when k is the whole vocabulary."""

    ids: torch.Tensor
    logs: torch.Tensor
    tail: torch.Tensor | None

    def outcomes(self) -> torch.Tensor:
        """Log-probabilities of the k tokens and of the rest, made whole again after rounding: (n, k + 1)."""
        logs = self.logs if self.tail is None else torch.cat([self.logs, self.tail[:, None]], dim=-1)
        return torch.log_softmax(logs, dim=-1)

    def rows(self, rows: slice) -> Likeliest:
        """The same of some of the tokens."""
        return Likeliest(self.ids[rows], self.logs[rows], None if self.tail is None else self.tail[rows])


def likeliest(logits: torch.Tensor, k: int) -> Likeliest:
    """The k likeliest tokens of logits (n, vocabulary), and the log mass of all the others, in float32."""
    vocabulary = logits.shape[1]
    ids, logs, tails = [], [], []
    for rows in row_slices(logits):
        log_p = torch.log_softmax(logits[rows], dim=-1, dtype=torch.float32)
        top = log_p.topk(min(k, vocabulary), dim=-1)
        ids.append(top.indices)
        logs.append(top.values)
        if k < vocabulary:
            tails.append(log_p.scatter_(1, top.indices, -math.inf).logsumexp(-1))
    return Likeliest(torch.cat(ids), torch.cat(logs), torch.cat(tails) if tails else None)


def cached_divergence(
    name: str, logits: torch.Tensor, teacher: Likeliest, ids: torch.Tensor, share: float = 0.0
) -> torch.Tensor:
    """(1 − share) · the divergence of this name over the k + 1 outcomes + share · cross-entropy on ids, in nats.

    logits: the student's (n, vocabulary). ids: the reference's int64 (n,). Answers (n,), float32. One pass over the
    vocabulary forward, one backward, and one tensor of its size in the logits' own type.
    """
    log_q, log_reference = log_outcomes(logits, teacher.ids, ids)
    losses = BUCKETED[name](log_q, teacher.outcomes().to(log_q.dtype))
    return (1 - share) * losses - share * log_reference if share else losses


def log_outcomes(logits: torch.Tensor, ids: torch.Tensor, reference: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """log q of each of the ids and, last, of all other tokens together (n, k + 1), and of the reference (n,).

    Without the last column when the ids (n, k) are the whole vocabulary. The rest is summed over the rest, not taken
    as 1 less the others, so that it is exact however small it is.
    """
    found: tuple[torch.Tensor, torch.Tensor] = _Outcomes.apply(logits, ids, reference)
    return found


def _forward(log_q: torch.Tensor, log_p: torch.Tensor) -> torch.Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def _reverse(log_q: torch.Tensor, log_p: torch.Tensor) -> torch.Tensor:
    return (log_q.exp() * (log_q - log_p)).sum(-1)


def _skew(log_q: torch.Tensor, log_p: torch.Tensor) -> torch.Tensor:
    mixed = torch.logaddexp(log_p + math.log(SKEW), log_q + math.log1p(-SKEW))
    return (log_p.exp() * (log_p - mixed)).sum(-1)


BUCKETED: dict[str, Bucketed] = {"forward_kl": _forward, "reverse_kl": _reverse, "skew_kl": _skew}


class _Outcomes(torch.autograd.Function):
    """`log_outcomes` with the softmax over the rest kept, which is all that the gradient needs of the vocabulary."""

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, ids: torch.Tensor, reference: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        dtype = wide(logits.dtype)
        picked = logits.gather(1, ids).to(dtype)
        known = logits.gather(1, reference[:, None]).to(dtype)
        total = picked.logsumexp(-1, keepdim=True)
        rest = logits.clone()
        if whole := ids.shape[1] == logits.shape[1]:
            log_q = picked - total
        else:
            rest_total = _softmax_of_rest(rest.scatter_(1, ids, -math.inf), dtype)
            total = torch.logaddexp(total, rest_total)
            log_q = torch.cat([picked, rest_total], dim=-1) - total
        ctx.whole = whole
        ctx.save_for_backward(rest, ids, reference, log_q)
        return log_q, (known - total)[:, 0]

    @staticmethod
    def backward(ctx: Any, slopes: torch.Tensor, slope: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # With s the slope of each outcome's log q, S their sum and r the softmax over the rest:
        # d / d z = s − S q at the ids, r (s_rest − S q_rest) elsewhere; the reference's own slope is added at its id.
        gradient, ids, reference, log_q = ctx.saved_tensors
        outcome = slopes - (slopes.sum(-1) + slope)[:, None] * log_q.exp()
        if not ctx.whole:
            gradient.mul_(outcome[:, -1:])
        gradient.scatter_(1, ids, outcome[:, : ids.shape[1]].to(gradient.dtype))
        at = reference[:, None]
        gradient.scatter_(1, at, (gradient.gather(1, at) + slope[:, None]).to(gradient.dtype))
        return gradient, None, None


def _softmax_of_rest(rest: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Replaces logits by their softmax, rows at a time, and answers their logsumexp (n, 1) in `dtype`."""
    totals = []
    for rows in row_slices(rest):
        largest, at = rest[rows].max(dim=-1, keepdim=True)
        shares = torch.softmax(rest[rows], dim=-1, dtype=dtype)
        totals.append(largest.to(dtype) - shares.gather(1, at).log())
        rest[rows] = shares
    return torch.cat(totals)
