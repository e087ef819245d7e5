"""What `mtpareto translate` says beside the lines: how far it is, and which lines were cut."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING

from orchestrator.number_format import spell_seconds
from search_spaces.wording import pluralize

if TYPE_CHECKING:
    from workers.translation.line_translator import TranslatedLine

log = logging.getLogger(__name__)

# Seconds between two lines of progress where the standard error is no terminal.
EVERY = 10.0
# Numbers of lines that a warning names.
MOST_NAMED = 5


class Progress:
    """How many lines are done, on the standard error: in place on a terminal, else a line every few seconds; and what
    was cut, at the end."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._said = time.monotonic()
        self._in_place = sys.stderr.isatty()
        self._done = 0
        self._cut: list[int] = []
        self._parted: list[int] = []

    def begin(self) -> None:
        """A model is loaded, the first of several: the time counts from here."""
        if self._began is None:
            self._began = self._said = time.monotonic()

    def add(self, lines: list[TranslatedLine]) -> None:
        """These lines are written."""
        for line in lines:
            self._done += 1
            if line.truncated:
                self._cut.append(self._done)
            if line.pieces > 1:
                self._parted.append(self._done)
        now = time.monotonic()
        if self._in_place:
            sys.stderr.write(f"\r{self._so_far(now)}\x1b[K")
            sys.stderr.flush()
        elif now - self._said >= EVERY:
            print(self._so_far(now), file=sys.stderr)
            self._said = now

    def end(self, why: str | None) -> None:
        """Nothing follows. why: what ended it before the last line."""
        if self._in_place and self._done:
            # The last line takes its place.
            sys.stderr.write("\r\x1b[K")
        if why:
            print(why, file=sys.stderr)
        print(self._so_far(time.monotonic()), file=sys.stderr)
        if self._parted:
            log.warning("too long for the model's context, and translated in pieces: %s", _lines(self._parted))
        if self._cut:
            log.warning("cut at the length limit: %s; raise --max-new-tokens", _lines(self._cut))

    def _so_far(self, now: float) -> str:
        took = 0.0 if self._began is None else now - self._began
        return f"{pluralize(self._done, 'line')} translated in {spell_seconds(took)}"


def _lines(numbers: list[int]) -> str:
    """`lines 3 and 8`, or `12 lines (3, 8, 9, 11, 20, …)`."""
    named = ", ".join(map(str, numbers[:MOST_NAMED]))
    if len(numbers) <= MOST_NAMED:
        return f"{'line' if len(numbers) == 1 else 'lines'} {named}"
    return f"{len(numbers):,} lines ({named}, …)"
