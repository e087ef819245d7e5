"""What a person hears while a training is prepared: how much there is of the teacher's cache, or its translations."""

from __future__ import annotations

import time
from collections.abc import Callable

from workers.runtime.training_progress import MEASURED_SECONDS, REPORT_SECONDS, Progress


class Preparing:
    """Told tokens done and to be done, it reports about once a second, at the beginning and at the end.

    name: the step's method; doing: what is made, in words. report: hears of progress. clock: in seconds.
    """

    def __init__(
        self, name: str, doing: str, report: Callable[[Progress], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._doing = doing
        self._report = report
        self._clock = clock
        self._reported_at: float | None = None
        self._first: tuple[float, int] | None = None

    def __call__(self, done: int, of: int) -> None:
        now = self._clock()
        if done and self._first is None:
            # What was done first took loading the model, too.
            self._first = (now, done)
        if self._reported_at is not None and now - self._reported_at < REPORT_SECONDS and done < of:
            return
        self._reported_at = now
        began, before = self._first or (now, 0)
        speed = (done - before) / (now - began) if now > began else 0.0
        measured = speed > 0.0 and now - began >= MEASURED_SECONDS
        left = 0.0 if done >= of else (of - done) / speed if measured else None
        progress = Progress(
            name=self._name, tokens=done, of=of, tokens_s=speed, loss=0.0, chrf=None, left_s=left, doing=self._doing
        )
        self._report(progress)
