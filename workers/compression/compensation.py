"""Which inputs of a linear layer can go at least cost, and what the others' weights become to make up for them.

With H the mean of x xᵀ over a layer's inputs x, replacing its weight W by W + Δ changes its output by the mean square
tr(Δ H Δᵀ). Taking inputs away means Δ = -W in their columns and, in the columns that stay, the Δ that costs least: the
least squares of Kwon et al. 2022 (https://arxiv.org/abs/2204.09656 §4.3), with a ridge on the change, so that a layer
that loses nothing keeps its weights. Costs are those after this compensation, read off the inverse Hessian: for a group
G of inputs tr(W_G (H⁻¹)_GG⁻¹ W_Gᵀ) (ZipLM, Kurtic et al. 2023, https://arxiv.org/abs/2302.04089 §3.1).

The ridge is a share of each input's own mean square: rescaling an input against its weights changes nothing, and one
input far larger than the rest, as the inputs of LLMs' down projections have, does not drown the others. It goes by how
much noise the fit has, since what few tokens say of many inputs is mostly chance. All arithmetic is float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from search_spaces.errors import StudyError

# The least ridge, and that under which inputs are chosen: well above what float32 sums leave of eigenvalues that are 0.
# Choosing under up to a quarter of inputs / tokens changed no divergence by more than its noise (models/captions, 1,500
# to 65,000 tokens); under all of it, worse key-value groups went.
LEAST_RIDGE = 1e-4
# So many of the cheapest inputs are candidates at a time, and up to this share of them goes before the costs of all
# are worked out again.
CANDIDATES = 256
SHARE_AT_ONCE = 0.25


@dataclass(frozen=True, slots=True)
class Compensated:
    """The inputs that stay, and the weight over them. kept: int64 (kept,), rising. weight: float64 (rows, kept).
    error: the mean square of the output's change, over that of the output."""

    kept: torch.Tensor
    weight: torch.Tensor
    error: float


def keep_columns(weight: torch.Tensor, hessian: torch.Tensor, count: int) -> torch.Tensor:
    """The `count` inputs that stay when inputs go one after another, each time the one whose absence costs least.

    weight: (rows, columns). hessian: (columns, columns). Answers int64 (count,), rising. Among the cheapest candidates
    every choice counts in what the ones before it changed; the others are brought up to date from time to time.
    """
    scaled, inverse = _scaled_inverse(weight, hessian)
    alive = torch.arange(len(inverse), device=inverse.device)
    while len(alive) > count:
        cost = scaled.square().sum(dim=0) / inverse.diagonal()
        candidates = cost.argsort(stable=True)[:CANDIDATES]
        at_once = min(len(alive) - count, max(int(len(candidates) * SHARE_AT_ONCE), 1))
        chosen = candidates[_eliminated(scaled[:, candidates], inverse[candidates][:, candidates], at_once)]
        scaled, inverse, alive = _without(scaled, inverse, alive, chosen)
    return alive


def keep_groups(weight: torch.Tensor, hessian: torch.Tensor, count: int, size: int) -> torch.Tensor:
    """The `count` groups of `size` consecutive inputs that stay when groups go one after another, each time the one
    whose absence costs least. weight: (rows, groups · size). Answers int64 (count,), rising."""
    scaled, inverse = _scaled_inverse(weight, hessian)
    alive = torch.arange(len(inverse) // size, device=inverse.device)
    while len(alive) > count:
        blocks = torch.stack([inverse[start : start + size, start : start + size] for start in _starts(inverse, size)])
        parts = torch.stack([scaled[:, start : start + size].T for start in _starts(inverse, size)])
        # tr(W_G (H⁻¹)_GG⁻¹ W_Gᵀ) = ‖L⁻¹ W_Gᵀ‖² with L Lᵀ = (H⁻¹)_GG.
        cost = torch.linalg.solve_triangular(torch.linalg.cholesky(blocks), parts, upper=False).square().sum((1, 2))
        worst = int(cost.argmin())
        chosen = torch.arange(worst * size, (worst + 1) * size, device=inverse.device)
        scaled, inverse, _ = _without(scaled, inverse, torch.arange(len(inverse), device=inverse.device), chosen)
        alive = torch.cat([alive[:worst], alive[worst + 1 :]])
    return alive


def compensate(weight: torch.Tensor, hessian: torch.Tensor, kept: torch.Tensor, tokens: int) -> Compensated:
    """The weight over the inputs that stay: W_K + W_R H_RK (H_KK + ridge)⁻¹, R being those that go.

    weight: (rows, columns). hessian: (columns, columns), the mean over `tokens` tokens. kept: int64, rising. The ridge
    is that of Hoerl, Kennard and Baldwin 1975 (https://doi.org/10.1080/03610927508827232): inputs · noise / (tokens ·
    change²), the noise and the change being those under a first ridge of inputs / tokens.
    """
    weight = weight.double()
    scale, normal = _normalised(hessian)
    scaled = weight * scale
    gone = torch.ones(len(scale), dtype=torch.bool, device=scale.device)
    gone[kept] = False
    shared, among = scaled[:, gone] @ normal[gone][:, kept], normal[kept][:, kept]

    def solved(ridge: float) -> tuple[torch.Tensor, float]:
        change = torch.cholesky_solve(shared.T, _factor(among, ridge)).T
        delta = -scaled
        delta[:, kept] = change
        return change, _energy(delta, normal)

    change, noise = solved(len(scale) / tokens)
    size = float(change.square().sum())
    if size > 0:
        freedom = max(tokens - len(kept), 1) / tokens
        change, noise = solved(len(kept) * noise / (freedom * tokens * size))
    # An input that is always 0 correlates with nothing, so its change is 0 whatever it is divided by.
    found = weight[:, kept] + change / torch.where(scale > 0, scale, 1.0)[kept]
    whole = _energy(scaled, normal)
    return Compensated(kept, found, noise / whole if whole > 0 else 0.0)


def _normalised(hessian: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each input's root mean square (columns,), and the Hessian over both: ones on the diagonal, also for an input that
    is always 0. Raises ValueError for a Hessian that is not finite."""
    scale = hessian.diagonal().double().clamp(min=0).sqrt()
    if not bool(torch.isfinite(scale).all()):
        raise ValueError("the calibration Hessian is not finite; the model is damaged or overflows its number type")
    over = torch.where(scale > 0, 1 / scale, 0.0)
    normal = hessian.double().mul_(over[:, None]).mul_(over)
    normal.diagonal().fill_(1.0)
    return scale, normal


def _scaled_inverse(weight: torch.Tensor, hessian: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The weight over unit inputs (rows, columns), and the inverse of their ridged Hessian (columns, columns)."""
    scale, normal = _normalised(hessian)
    return weight.double() * scale, torch.cholesky_inverse(_factor(normal, LEAST_RIDGE))


def _factor(normal: torch.Tensor, ridge: float) -> torch.Tensor:
    """Lower triangular L with L Lᵀ = normal + ridge · I; raises StudyError when there is none."""
    ridged = normal.clone()
    ridged.diagonal().add_(max(ridge, LEAST_RIDGE))
    lower, failed = torch.linalg.cholesky_ex(ridged)
    if bool(failed):
        raise StudyError(
            f"a calibration Hessian of {len(normal)} inputs has no Cholesky factor; give more calibration pairs with "
            "--calibration"
        )
    return lower


def _eliminated(weight: torch.Tensor, inverse: torch.Tensor, count: int) -> torch.Tensor:
    """The `count` columns that go, one after another: int64 (count,). weight: (rows, columns). inverse: (columns,
    columns) of the inverse Hessian."""
    products, inverse = weight.T @ weight, inverse.clone()
    gone = torch.zeros(len(inverse), dtype=torch.float64, device=inverse.device)
    chosen: list[torch.Tensor] = []
    for _ in range(count):
        cost = products.diagonal() / inverse.diagonal() + gone
        # A tensor as index: the device goes on without waiting for the host.
        column = cost.argmin().reshape(1)
        chosen.append(column)
        gone.index_fill_(0, column, torch.inf)
        row = inverse.index_select(0, column)[0]
        share = row / row.index_select(0, column)
        product = products.index_select(0, column)[0]
        # With w the column and s its share of the others, W becomes W - w sᵀ.
        cross = torch.outer(product, share)
        products -= cross + cross.T - product.index_select(0, column) * torch.outer(share, share)
        inverse -= torch.outer(row, share)
        # What went is left with 0 over 1: no cost but the infinite one, and nothing of it in later updates.
        for matrix in (products, inverse):
            matrix.index_fill_(0, column, 0.0).index_fill_(1, column, 0.0)
        inverse.diagonal().index_fill_(0, column, 1.0)
    return torch.cat(chosen)


def _without(
    weight: torch.Tensor, inverse: torch.Tensor, names: torch.Tensor, gone: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The weight, the inverse Hessian and the names of the columns that stay, once `gone` is made up for."""
    stays = torch.ones(len(inverse), dtype=torch.bool, device=inverse.device)
    stays[gone] = False
    share = torch.cholesky_solve(inverse[gone], torch.linalg.cholesky(inverse[gone][:, gone]))
    weight = weight - weight[:, gone] @ share
    inverse = inverse - inverse[:, gone] @ share
    return weight[:, stays], inverse[stays][:, stays], names[stays]


def _energy(weight: torch.Tensor, normal: torch.Tensor) -> float:
    return float(((weight @ normal) * weight).sum())


def _starts(inverse: torch.Tensor, size: int) -> range:
    return range(0, len(inverse), size)
