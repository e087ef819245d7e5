"""What the project's own loggers warn of while work is under way, for those who do not see the process's terminal.

A trial's process writes into Ray's log files, which nobody reads. So a trial notes what it was warned of, and its
search says it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Hear = Callable[[str], None]
# The packages whose warnings are for the user; those of libraries below are not.
OURS = ("workers", "search_spaces")


def unheard_warning(text: str) -> None:
    """Where a warning goes that nobody asks for: to the notes alone."""


class Warnings:
    """Distinct warnings in the order in which they came. hear: is told of each once, when it comes."""

    def __init__(self, hear: Hear = unheard_warning, known: tuple[str, ...] = ()) -> None:
        """known: those that were heard before."""
        self._hear = hear
        self._texts = dict.fromkeys(known)

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(self._texts)

    def __call__(self, text: str) -> None:
        if text not in self._texts:
            self._texts[text] = None
            self._hear(text)


@contextmanager
def heard_by(hear: Hear) -> Iterator[None]:
    """Tell `hear` the text of every warning and error that our own loggers write within, from whatever thread.

    What is written elsewhere, such as to the terminal of `main.py`, is so still.
    """
    added = [(logger, handler) for logger in map(logging.getLogger, OURS) for handler in _handlers(logger, hear)]
    for logger, handler in added:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, handler in added:
            logger.removeHandler(handler)


def _handlers(logger: logging.Logger, hear: Hear) -> list[logging.Handler]:
    """With a handler, a logger no longer falls back to stderr; where it would have, it goes on to."""
    fallback = [] if logger.hasHandlers() or logging.lastResort is None else [logging.lastResort]
    return [_Hearing(hear), *fallback]


class _Hearing(logging.Handler):
    def __init__(self, hear: Hear) -> None:
        super().__init__(logging.WARNING)
        self._hear_text = hear

    def emit(self, record: logging.LogRecord) -> None:
        self._hear_text(record.getMessage())
