"""Where a trial is, and how long each part of it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


def _unheard(stage: str) -> None:
    """For those whose stages nobody follows."""


@dataclass(slots=True)
class Stages:
    """Seconds spent a stage, and the stage under way (for the report of an error). begins: is told of each stage."""

    current: str = "start"
    seconds: dict[str, float] = field(default_factory=dict)
    begins: Callable[[str], None] = _unheard

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.current = name
        self.begins(name)
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
