"""Lines of a file or a pipe as they come: a full batch where there is one, fewer where who writes has paused."""

from __future__ import annotations

import os
import select
import time
from collections import deque

CHUNK = 1 << 16


class LineReader:
    """Lines of a descriptor, without their ends; a line ends at \\n, or at \\r\\n.

    No more is held than the lines asked for and a chunk of 64 KiB, or one line where that is longer. What is no UTF-8
    becomes U+FFFD.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque()
        self._parts: list[bytes] = []
        self._over = False

    def take(self, most: int, patience: float) -> list[str]:
        """At most so many lines; [] at the end. Waits for the first, and then so many seconds at most for the rest."""
        end = None
        while len(self._lines) < most and not self._over:
            if self._lines and end is None:
                end = time.monotonic() + patience
            wait = None if end is None else max(0.0, end - time.monotonic())
            if not select.select([self._descriptor], [], [], wait)[0]:
                break
            self._read()
        count = min(most, len(self._lines))
        return [self._lines.popleft().decode("utf-8", errors="replace") for _ in range(count)]

    def _read(self) -> None:
        chunk = os.read(self._descriptor, CHUNK)
        if not chunk:
            self._over = True
            if rest := b"".join(self._parts):
                self._lines.append(rest.removesuffix(b"\r"))
            self._parts = []
            return
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            self._lines.append(b"".join([*self._parts, line]).removesuffix(b"\r"))
            self._parts = []
        if rest:
            self._parts.append(rest)
