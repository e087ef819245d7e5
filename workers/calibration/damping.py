"""How far damping rose before calibration Hessians had Cholesky factors, and what a trial's notes say of it.

A Hessian of real activations need not be of full rank, and sums in float32 leave eigenvalues below 0. What is added to
its diagonal rises tenfold until it factors; a matrix that its diagonal outweighs always does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

RISE = 10.0


@dataclass(frozen=True, slots=True)
class Damped:
    """One Hessian's damping. inputs: how many live ones it has. first, last: what was to be added to its diagonal, and
    what was, as shares of the inputs' mean squares. unseen: the share of its directions without data beyond that: the
    mean over eigenvalues e of d / (e + d), d being what was added (1 less Hoerl and Kennard's effective degrees of
    freedom a direction)."""

    inputs: int
    first: float
    last: float
    unseen: float

    @property
    def rose(self) -> bool:
        return self.last > self.first


Hear = Callable[[Damped], None]


def unheard(damped: Damped) -> None:
    """For callers that don't ask."""


@dataclass(slots=True)
class Dampings:
    """The dampings of one step's Hessians, as they are heard of. tokens: how many the Hessians were taken over."""

    tokens: int
    heard: list[Damped] = field(default_factory=list)

    def hear(self, damped: Damped) -> None:
        self.heard.append(damped)

    def notes(self) -> tuple[str, ...]:
        """Facts for the trial's record; none where every Hessian factored at once and had tokens enough."""
        found = []
        risen = [damped for damped in self.heard if damped.rose]
        if risen:
            most = max(risen, key=lambda damped: damped.last)
            shares = [damped.unseen for damped in risen]
            found.append(
                f"{len(risen)} of {len(self.heard)} calibration Hessians had no Cholesky factor at first: their "
                f"damping rose from {most.first:g} of the inputs' mean squares to {most.last:g} at most, and "
                f"{_spell_shares(shares)} of their directions have no data beyond it; more calibration pairs "
                "(--calibration) may help"
            )
        wide = max((damped.inputs for damped in self.heard), default=0)
        if wide > self.tokens:
            found.append(
                f"the {self.tokens:,} calibration tokens are fewer than the {wide:,} inputs of the widest weight: at "
                f"least {1 - self.tokens / wide:.0%} of its directions have no data; more calibration pairs "
                "(--calibration) may help"
            )
        return tuple(found)


def _spell_shares(shares: list[float]) -> str:
    least, most = f"{min(shares):.0%}", f"{max(shares):.0%}"
    return most if least == most else f"{least} to {most}"
