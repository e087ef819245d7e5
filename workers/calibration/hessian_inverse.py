"""The triangular factor of a calibration Hessian's inverse, which GPTQ and SparseGPT read their updates from."""

from __future__ import annotations

import torch

from workers.calibration.damping import RISE, Damped, Hear, unheard

# What damping rises from where none was asked for.
LEAST_RISEN = 1e-6


def inverse_factor(hessian: torch.Tensor, damping: float, hear: Hear = unheard) -> torch.Tensor:
    """Upper triangular U with (H + damping · mean(diag H) · I)⁻¹ = UᵀU; hessian and U: float32 (columns, columns).

    Inputs that are always 0 (a zero on the diagonal) count neither in the mean nor in the factor: their diagonal is 1.
    U is the inverse of the upper triangular R with H = R Rᵀ; with J the exchange matrix and L Lᵀ = J H J, R is J L J.
    Where H is too close to singular for float32, float64 is tried, and then damping raised tenfold until there is a
    factor. hear: is told of the damping. Raises ValueError for a Hessian that is not finite. Reference: GPTQ,
    https://arxiv.org/abs/2210.17323 §3.3.
    """
    diagonal = hessian.diagonal()
    if not bool(torch.isfinite(hessian).all()):
        raise ValueError("the calibration Hessian is not finite; the model is damaged or overflows its number type")
    dead = diagonal <= 0
    live = (~dead).sum()
    mean = diagonal.sum().clamp(min=0) / live.clamp(min=1)
    flipped = hessian.flip(0, 1)
    added = damping
    lower = _inverse_lower(flipped, diagonal, dead, added * mean)
    if lower is None:
        diagonal = diagonal.double()
        mean = torch.where(dead, 0.0, diagonal).sum() / live.clamp(min=1)
        nothing = dead.flip(0)
        flipped = flipped.double().masked_fill_(nothing[:, None] | nothing, 0.0)
        while (lower := _inverse_lower(flipped, diagonal, dead, added * mean)) is None:
            added = max(added * RISE, LEAST_RISEN)
    if bool(live):
        # The diagonal of d · (H + d · I)⁻¹.
        shares = (lower * (added * mean).sqrt()).square().sum(dim=0)[~dead.flip(0)]
        hear(Damped(int(live), damping, added, min(float(shares.mean()), 1.0)))
    return lower.flip(0, 1).float()


def _inverse_lower(
    flipped: torch.Tensor, diagonal: torch.Tensor, dead: torch.Tensor, added: torch.Tensor
) -> torch.Tensor | None:
    """The inverse of the damped Hessian's lower triangular factor; None where it has none that numbers hold. flipped:
    its diagonal is written over."""
    damped = torch.where(dead, torch.ones_like(diagonal), diagonal + added)
    flipped.diagonal().copy_(damped.flip(0))
    lower, failed = torch.linalg.cholesky_ex(flipped)
    if bool(failed):
        return None
    identity = torch.eye(len(lower), dtype=lower.dtype, device=lower.device)
    found = torch.linalg.solve_triangular(lower, identity, upper=False)
    return found if bool(torch.isfinite(found).all()) else None
