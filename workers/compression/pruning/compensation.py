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

from collections.abc import Callable
from dataclasses import dataclass

import torch

from workers.calibration.damping import RISE, Damped, Hear, unheard
from workers.compression.pruning.elimination import Elimination

# The least ridge, and that under which inputs are chosen: well above what float32 sums leave of eigenvalues that are 0.
# Choosing under up to a quarter of inputs / tokens changed no divergence by more than its noise (models/captions, 1,500
# to 65,000 tokens); under all of it, worse key-value groups went.
LEAST_RIDGE = 1e-4
# An input of no larger mean square is as good as 0: float32 holds few or no digits of its products.
LEAST_SQUARE = 2.0**-100
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


def elimination() -> Elimination:
    """What `keep_columns` works with; one serves all layers of a model."""
    return Elimination(CANDIDATES, max(int(CANDIDATES * SHARE_AT_ONCE), 1))


def keep_columns(
    weight: torch.Tensor,
    hessian: torch.Tensor,
    count: int,
    hear: Hear = unheard,
    rounds: Elimination | None = None,
) -> torch.Tensor:
    """The `count` inputs that stay when inputs go one after another, each time the one whose absence costs least.

    weight: (rows, columns). hessian: (columns, columns). Answers int64 (count,), rising. Among the cheapest candidates
    every choice counts in what the ones before it changed; the others are brought up to date from time to time. hear:
    is told of the ridge. rounds: of `elimination`, where other layers follow.
    """
    rounds = rounds or elimination()

    def go(state: _State) -> torch.Tensor:
        cost = state.weight.square().sum(dim=0) / state.inverse.diagonal()
        candidates = cost.argsort(stable=True)[:CANDIDATES]
        most = max(int(len(candidates) * SHARE_AT_ONCE), 1)
        among = state.inverse[candidates][:, candidates]
        return candidates[rounds.round(state.weight[:, candidates], among, min(len(cost) - count, most))]

    return _eliminate(weight, hessian, count, go, hear)


def keep_groups(
    weight: torch.Tensor, hessian: torch.Tensor, count: int, size: int, hear: Hear = unheard
) -> torch.Tensor:
    """The `count` groups of `size` consecutive inputs that stay when groups go one after another, each time the one
    whose absence costs least. weight: (rows, groups · size). Answers int64 (count,), rising. hear: as above."""

    def go(state: _State) -> torch.Tensor | None:
        starts = range(0, len(state.names), size)
        blocks = torch.stack([state.inverse[start : start + size, start : start + size] for start in starts])
        parts = torch.stack([state.weight[:, start : start + size].T for start in starts])
        lower, failed = torch.linalg.cholesky_ex(blocks)
        if bool(failed.any()):
            return None
        # tr(W_G (H⁻¹)_GG⁻¹ W_Gᵀ) = ‖L⁻¹ W_Gᵀ‖² with L Lᵀ = (H⁻¹)_GG.
        cost = torch.linalg.solve_triangular(lower, parts, upper=False).square().sum((1, 2))
        worst = int(cost.argmin())
        return torch.arange(worst * size, (worst + 1) * size, device=state.names.device)

    return _eliminate(weight, hessian, count * size, go, hear)[::size] // size


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
        change = torch.cholesky_solve(shared.T, _factor(among, ridge)[0]).T
        delta = -scaled
        delta[:, kept] = change
        # What float32 leaves of eigenvalues that are 0 can make it a little less than none.
        return change, max(_energy(delta, normal), 0.0)

    change, noise = solved(len(scale) / tokens)
    size = float(change.square().sum())
    if size > 0:
        freedom = max(tokens - len(kept), 1) / tokens
        change, noise = solved(len(kept) * noise / (freedom * tokens * size))
    # An input that is always 0 correlates with nothing, so its change is 0 whatever it is divided by.
    found = weight[:, kept] + change / torch.where(scale > 0, scale, 1.0)[kept]
    whole = _energy(scaled, normal)
    return Compensated(kept, found, noise / whole if whole > 0 else 0.0)


@dataclass(frozen=True, slots=True)
class _State:
    """What is left while inputs go: the weight over unit inputs (rows, inputs), the inverse of their ridged Hessian
    (inputs, inputs), and which they are (inputs,), rising."""

    weight: torch.Tensor
    inverse: torch.Tensor
    names: torch.Tensor


def _eliminate(
    weight: torch.Tensor,
    hessian: torch.Tensor,
    count: int,
    go: Callable[[_State], torch.Tensor | None],
    hear: Hear,
) -> torch.Tensor:
    """The `count` inputs that stay. go: the positions of those that go next, None where round-off hides them.

    Where round-off has spoiled the inverse it is made anew from the Hessian; where that is of no use, all begins again
    under a larger ridge.
    """
    scale, normal = _normalised(hessian)
    scaled = weight.double() * scale
    ridge = LEAST_RIDGE
    while True:
        lower, ridge = _factor(normal, ridge)
        start = _State(scaled, torch.cholesky_inverse(lower), torch.arange(len(scale), device=scale.device))
        names = _eliminated_to(count, start, normal, ridge, go)
        if names is not None:
            hear(_damped(start.inverse.diagonal()[scale > 0], ridge))
            return names
        ridge *= RISE


def _eliminated_to(
    count: int, start: _State, normal: torch.Tensor, ridge: float, go: Callable[[_State], torch.Tensor | None]
) -> torch.Tensor | None:
    """The names of the `count` inputs that stay; None when this ridge is too small for the arithmetic."""
    state, fresh = start, True
    while len(state.names) > count:
        chosen = go(state) if _is_sound(state, ridge) else None
        after = None if chosen is None else _without(state, chosen)
        if after is not None:
            state, fresh = after, False
        elif fresh:
            return None
        else:
            anew = _anew(start.weight, normal, ridge, state.names)
            if anew is None:
                return None
            state, fresh = anew, True
    return state.names


def _is_sound(state: _State, ridge: float) -> bool:
    """Whether the inverse can be one: no entry of its diagonal is below 1 over the Hessian's, which is 1 and the ridge.
    The rest is round-off."""
    return bool((state.inverse.diagonal() > 0.5 / (1.0 + ridge)).all())


def _anew(scaled: torch.Tensor, normal: torch.Tensor, ridge: float, names: torch.Tensor) -> _State | None:
    """The state in which these inputs are left, from the Hessian itself; None where that has no factor."""
    gone = torch.ones(len(normal), dtype=torch.bool, device=normal.device)
    gone[names] = False
    ridged = normal[names][:, names]
    ridged.diagonal().add_(ridge)
    lower, failed = torch.linalg.cholesky_ex(ridged)
    if bool(failed):
        return None
    shared = scaled[:, gone] @ normal[gone][:, names]
    return _State(scaled[:, names] + torch.cholesky_solve(shared.T, lower).T, torch.cholesky_inverse(lower), names)


def _normalised(hessian: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each input's root mean square (columns,), and the Hessian over both: ones on the diagonal, also for an input that
    is always 0, or so small that float32 does not hold its square. Raises ValueError for a Hessian that is not
    finite."""
    square = hessian.diagonal().double()
    scale = torch.where(square > LEAST_SQUARE, square, 0.0).sqrt()
    if not bool(torch.isfinite(hessian).all()):
        raise ValueError("the calibration Hessian is not finite; the model is damaged or overflows its number type")
    over = torch.where(scale > 0, 1 / scale, 0.0)
    normal = hessian.double().mul_(over[:, None]).mul_(over)
    normal.diagonal().fill_(1.0)
    return scale, normal


def _factor(normal: torch.Tensor, ridge: float) -> tuple[torch.Tensor, float]:
    """Lower triangular L with L Lᵀ = normal + ridge · I, and the ridge: the least there is, or tenfold that so often
    that there is a factor."""
    ridge = max(ridge, LEAST_RIDGE)
    while True:
        ridged = normal.clone()
        ridged.diagonal().add_(ridge)
        lower, failed = torch.linalg.cholesky_ex(ridged)
        if not bool(failed):
            return lower, ridge
        ridge *= RISE


def _without(state: _State, gone: torch.Tensor) -> _State | None:
    """What is left once `gone` is made up for; None where round-off has spoiled the inverse."""
    weight, inverse = state.weight, state.inverse
    stays = torch.ones(len(inverse), dtype=torch.bool, device=inverse.device)
    stays[gone] = False
    lower, failed = torch.linalg.cholesky_ex(inverse[gone][:, gone])
    if bool(failed):
        return None
    share = torch.cholesky_solve(inverse[gone], lower)
    weight = weight - weight[:, gone] @ share
    inverse = inverse - inverse[:, gone] @ share
    return _State(weight[:, stays], inverse[stays][:, stays], state.names[stays])


def _energy(weight: torch.Tensor, normal: torch.Tensor) -> float:
    return float(((weight @ normal) * weight).sum())


def _damped(diagonal: torch.Tensor, ridge: float) -> Damped:
    """What is told of a ridge; diagonal: of the inverse under it, live inputs alone."""
    unseen = min(float(ridge * diagonal.mean()), 1.0) if len(diagonal) else 0.0
    return Damped(len(diagonal), LEAST_RIDGE, ridge, unseen)
