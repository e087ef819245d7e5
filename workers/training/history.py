"""What a run tells while it trains: reports about once a second, and the curve that stays with its checkpoints."""

from __future__ import annotations

from collections.abc import Callable

from workers.training.progress import Point, Progress, Window, evaluation_due, point_due

REPORT_SECONDS = 1.0


class History:
    """name: the step's method; budget: in tokens. report: hears of progress. clock: in seconds."""

    def __init__(self, name: str, budget: int, report: Callable[[Progress], None], clock: Callable[[], float]) -> None:
        self._name = name
        self._budget = budget
        self._report = report
        self._clock = clock
        self._reported_at = clock()
        self._whole = Window()
        self.evaluation_s = 0.0
        self.begin(())

    def begin(self, curve: tuple[Point, ...]) -> None:
        """Go on from a curve."""
        self.curve = curve
        self._since_report = self._since_point = Window()

    @property
    def chrf(self) -> float | None:
        """The last held-out score."""
        return next((point.chrf for point in reversed(self.curve) if point.chrf is not None), None)

    def add(self, window: Window, tokens: int) -> None:
        """Take in what was read up to `tokens`, and report when a second has passed, or at the budget's end."""
        self._whole += window
        self._since_point += window
        self._since_report += window
        now = self._clock()
        if now - self._reported_at < REPORT_SECONDS and tokens < self._budget:
            return
        speed = self._since_report.tokens_s
        left = max(self._budget - tokens, 0) / speed if speed > 0.0 else 0.0
        loss = self._since_report.mean_loss
        self._report(Progress(self._name, tokens, self._budget, speed, loss, self.chrf, left))
        self._reported_at = now
        self._since_report = Window()

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
        self.curve += (Point(tokens, since.mean_loss if since.targets else None, since.tokens_s, chrf),)
        self._since_point = Window()
