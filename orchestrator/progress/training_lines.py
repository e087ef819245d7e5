"""What a person reads of the trainings under way: a line for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orchestrator.number_format import spell_seconds
from workers.runtime.callbacks import ProgressCallback, at_most_every
from workers.runtime.training_progress import Progress

# On a terminal that can't redraw, a trial's training has a line at most so often.
LINE_SECONDS = 30.0

# Trial number -> its training's progress.
Trainings = Mapping[int, Progress]


def training_text(progress: Progress) -> str:
    """`recover 34 % · 1.20 nats · 48,100 tokens/s · validation chrF 61.2 · 3 min 20 s left`, and before the training
    `recover: teacher's cache 40 % · 48,100 tokens/s · 3 min 20 s left`; what is not known yet is left out."""
    share = min(progress.tokens / progress.of, 1.0) if progress.of else 1.0
    name = f"{progress.name}: {progress.doing}" if progress.doing else progress.name
    parts = [f"{name} {share:.0%}".replace("%", " %")]
    parts += [] if progress.doing else [f"{progress.loss:.2f} nats"]
    parts += [f"{progress.tokens_s:,.0f} tokens/s"] if progress.tokens_s > 0.0 else []
    parts += [] if progress.chrf is None else [f"validation chrF {progress.chrf:.1f}"]
    parts += [] if progress.left_s is None else [f"{spell_seconds(progress.left_s)} left"]
    return " · ".join(parts)


def training_line(number: int, progress: Progress) -> str:
    """`trial 7 recover 34 % · …`."""
    return f"trial {number} {training_text(progress)}"


def in_lines(say: Callable[[str], None]) -> ProgressCallback:
    """A `report` for one candidate at a time that says a line at most every LINE_SECONDS, and one at the end."""
    return at_most_every(LINE_SECONDS, lambda progress: say(training_text(progress)))


class Lines:
    """Where a terminal can't redraw: no line for a training that had one less than LINE_SECONDS ago, or that has not
    gone on since."""

    def __init__(self) -> None:
        self._said: dict[int, tuple[float, Progress]] = {}

    def due(self, trainings: Trainings, now: float) -> list[str]:
        """The lines to say now, in seconds of the caller's clock."""
        numbers = [number for number, progress in sorted(trainings.items()) if self._is_due(number, progress, now)]
        self._said |= {number: (now, trainings[number]) for number in numbers}
        return [training_line(number, trainings[number]) for number in numbers]

    def _is_due(self, number: int, progress: Progress, now: float) -> bool:
        if number not in self._said:
            return True
        at, said = self._said[number]
        return now - at >= LINE_SECONDS and progress != said
