"""How far a training is, what it has shown so far, and when to look at validation pairs (no torch)."""

from __future__ import annotations

from dataclasses import dataclass, replace

REPORT_SECONDS = 1.0
# Validation pairs are translated about so many times on the way, which takes no more of the time than this share.
EVALUATIONS = 5
EVALUATION_TIME = 0.1
# A curve has about so many points.
POINTS = 100
# A time left is told once so many seconds were measured, without the first of all, in which a device is slow.
MEASURED_SECONDS = 10.0
# What a trial's note begins with when validation translations are worse after a training than before, beyond chance.
MADE_WORSE = "training made it worse"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is, or what comes before it, for the terminal."""

    name: str
    """The step's method."""
    tokens: int
    """Real tokens read so far."""
    of: int
    """The budget, in real tokens."""
    tokens_s: float
    """Tokens a second since the last report."""
    loss: float
    """Mean loss of a target token since the last report."""
    chrf: float | None
    """The last validation score, if there is one."""
    left_s: float | None
    """Seconds left at this speed; None while too little was measured."""
    doing: str = ""
    """What is made before the training; the numbers are then of that, with no loss. Empty during the training."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A point of a curve. tokens: read so far. loss: mean a target token since the point before; None at the start.
    tokens_s: tokens a second since the point before. chrf: the validation score, where it was taken here."""

    tokens: int
    loss: float | None
    tokens_s: float
    chrf: float | None


def with_ends_scored(
    curve: tuple[CurvePoint, ...], before: float | None, after: float | None
) -> tuple[CurvePoint, ...]:
    """The curve with validation scores at its ends, where they were taken apart from it. before: at no token read."""
    if curve and before is not None and (curve[0].tokens > 0 or curve[0].chrf is None):
        rest = curve if curve[0].tokens > 0 else curve[1:]
        curve = (CurvePoint(0, None, 0.0, before), *rest)
    if curve and after is not None and curve[-1].chrf is None:
        curve = (*curve[:-1], replace(curve[-1], chrf=after))
    return curve


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training did."""

    tokens: int
    """Real tokens read."""
    steps: int
    """Optimizer steps."""
    curve: tuple[CurvePoint, ...]
    """Points of the curve, in order."""
    notes: tuple[str, ...]
    """Facts for the trial's record, such as a smaller micro-batch."""
    chrf_before: float | None
    """Validation score before the training, if there is anything to score."""
    chrf_after: float | None
    """Validation score after the training, if there is anything to score."""
    since: int = 0
    """How many of the tokens an earlier attempt or a smaller budget had read."""

    @property
    def looks_worse(self) -> bool:
        """Whether validation chrF fell, by as much as is shown."""
        before, after = self.chrf_before, self.chrf_after
        return before is not None and after is not None and round(after, 2) < round(before, 2)


@dataclass(frozen=True, slots=True)
class StepWindow:
    """What was read over a stretch of steps. loss: summed over `targets` tokens."""

    tokens: int = 0
    targets: int = 0
    loss: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: StepWindow) -> StepWindow:
        return StepWindow(
            self.tokens + other.tokens,
            self.targets + other.targets,
            self.loss + other.loss,
            self.seconds + other.seconds,
        )

    @property
    def mean_loss(self) -> float:
        return self.loss / max(self.targets, 1)

    @property
    def tokens_s(self) -> float:
        return self.tokens / self.seconds if self.seconds > 0.0 else 0.0


def point_due(since: int, budget: int) -> bool:
    """Whether the curve needs a point. since: tokens read since its last one."""
    return since >= budget / POINTS


def evaluation_due(since: int, budget: int, whole_s: float, evaluation_s: float, count: int) -> bool:
    """Whether to score validation translations on the way: a fifth of the budget after the last time, and only while
    those on the way take no more than a tenth of the training's time.

    since: tokens read since the last time. whole_s: seconds that the whole budget takes; evaluation_s: seconds of one
    evaluation; count: evaluations on the way so far.
    """
    return since >= budget / EVALUATIONS and (count + 1) * evaluation_s <= EVALUATION_TIME * whole_s
