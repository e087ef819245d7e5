"""What a run tells while it trains: reports about once a second, and the curve that stays with its checkpoints."""

from __future__ import annotations

from collections.abc import Callable

from workers.runtime.training_progress import (
    MEASURED_SECONDS,
    REPORT_SECONDS,
    CurvePoint,
    Progress,
    StepWindow,
    evaluation_due,
    point_due,
)


class History:
    """name: the step's method; budget: in tokens. report: hears of progress. clock: in seconds."""

    def __init__(self, name: str, budget: int, report: Callable[[Progress], None], clock: Callable[[], float]) -> None:
        self._name = name
        self._budget = budget
        self._report = report
        self._clock = clock
        self._reported_at = clock()
        self._whole = StepWindow()
        self._first_s: float | None = None
        self.evaluation_s = 0.0
        self.begin(())

    def begin(self, curve: tuple[CurvePoint, ...]) -> None:
        """Go on from a curve."""
        self.curve = curve
        self._since_report = self._since_point = StepWindow()

    @property
    def chrf(self) -> float | None:
        """The last validation score."""
        return next((point.chrf for point in reversed(self.curve) if point.chrf is not None), None)

    def add(self, window: StepWindow, tokens: int) -> None:
        """Take in what was read up to `tokens`, and report when a second has passed, or at the budget's end."""
        if self._first_s is None:
            self._first_s = window.seconds
        self._whole += window
        self._since_point += window
        self._since_report += window
        now = self._clock()
        if now - self._reported_at < REPORT_SECONDS and tokens < self._budget:
            return
        speed, loss = self._since_report.tokens_s, self._since_report.mean_loss
        progress = Progress(
            name=self._name,
            tokens=tokens,
            of=self._budget,
            tokens_s=speed,
            loss=loss,
            chrf=self.chrf,
            left_s=self._left_s(tokens, speed),
        )
        self._report(progress)
        self._reported_at = now
        self._since_report = StepWindow()

    def _left_s(self, tokens: int, speed: float) -> float | None:
        if tokens >= self._budget:
            return 0.0
        measured = self._whole.seconds - (self._first_s or 0.0)
        return (self._budget - tokens) / speed if speed > 0.0 and measured >= MEASURED_SECONDS else None

    def point_is_due(self, tokens: int) -> bool:
        return point_due(tokens - (self.curve[-1].tokens if self.curve else 0), self._budget)

    def evaluation_is_due(self, tokens: int) -> bool:
        scored = [point.tokens for point in self.curve if point.chrf is not None]
        since = tokens - (scored[-1] if scored else 0)
        whole_s = self._budget / self._whole.tokens_s if self._whole.tokens_s > 0.0 else 0.0
        return evaluation_due(since, self._budget, whole_s, self.evaluation_s, max(len(scored) - 1, 0))

    def mark(self, tokens: int, chrf: float | None) -> None:
        """Put a point on the curve."""
        since = self._since_point
        self.curve += (CurvePoint(tokens, since.mean_loss if since.targets else None, since.tokens_s, chrf),)
        self._since_point = StepWindow()
