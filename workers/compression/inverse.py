"""The triangular factor of a calibration Hessian's inverse, which GPTQ and SparseGPT read their updates from."""

from __future__ import annotations

import torch

from search_spaces.errors import StudyError

RAISES = 3


def inverse_factor(hessian: torch.Tensor, damping: float) -> torch.Tensor:
    """Upper triangular U with (H + damping · mean(diag H) · I)⁻¹ = UᵀU; hessian and U: float32 (columns, columns).

    Inputs that are always 0 (a zero on the diagonal) count neither in the mean nor in the factor: their diagonal is 1.
    U is the inverse of the upper triangular R with H = R Rᵀ; with J the exchange matrix and L Lᵀ = J H J, R is J L J.
    Where H is too close to singular the damping is raised tenfold, up to three times. Raises StudyError when that was
    not enough, ValueError for a Hessian that is not finite. Reference: GPTQ, https://arxiv.org/abs/2210.17323 §3.3.
    """
    diagonal = hessian.diagonal()
    if not bool(torch.isfinite(hessian).all()):
        raise ValueError("the calibration Hessian is not finite; the model is damaged or overflows its number type")
    dead = diagonal <= 0
    mean = diagonal.sum().clamp(min=0) / (~dead).sum().clamp(min=1)
    flipped = hessian.flip(0, 1)
    for power in range(RAISES + 1):
        damped = torch.where(dead, torch.ones_like(diagonal), diagonal + damping * 10**power * mean)
        flipped.diagonal().copy_(damped.flip(0))
        lower, failed = torch.linalg.cholesky_ex(flipped)
        if not bool(failed):
            return _inverse_of_lower(lower).flip(0, 1)
    raise StudyError(
        f"a calibration Hessian of {len(diagonal)} inputs has no Cholesky factor, not even with "
        f"{damping * 10**RAISES:g} of its mean diagonal added; give more calibration pairs, more damping, or use a "
        "method without calibration"
    )


def _inverse_of_lower(lower: torch.Tensor) -> torch.Tensor:
    identity = torch.eye(len(lower), dtype=lower.dtype, device=lower.device)
    return torch.linalg.solve_triangular(lower, identity, upper=False)
