"""One writer's part of a teacher's cache: files that only grow, and whose index is written after their data."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np

# A sequence, where its records begin and how many they are, in tokens.
ENTRY = np.dtype([("row", "<i8"), ("start", "<i8"), ("count", "<i8")])
# What a killed writer may lose.
_UNFLUSHED_BYTES = 4 * 2**20


class Shard:
    """One writer's files: `.tokens`, records one after the other, and `.rows`, which sequences they are of."""

    def __init__(self, folder: Path) -> None:
        name = uuid.uuid4().hex[:12]
        self.data = folder / f"{name}.tokens"
        self._data = self.data.open("xb", buffering=0)
        self._index = (folder / f"{name}.rows").open("xb", buffering=0)
        self._pending: list[tuple[int, int, int]] = []
        self._tokens = 0
        self._unflushed = 0

    def append(self, row: int, records: Any) -> tuple[int, int, int]:
        """Write the records of one sequence; answers its `ENTRY`. Raises OSError when the disk is full."""
        entry = (row, self._tokens, len(records))
        _write(self._data, records.tobytes(), self._tokens * records.itemsize)
        self._tokens += len(records)
        self._pending.append(entry)
        self._unflushed += records.nbytes
        if self._unflushed > _UNFLUSHED_BYTES:
            self.flush()
        return entry

    def flush(self) -> None:
        """Data on disk, then the entries that say so."""
        os.fsync(self._data.fileno())
        entries = np.array(self._pending, dtype=ENTRY)
        _write(self._index, entries.tobytes(), self._index.tell())
        os.fsync(self._index.fileno())
        self._pending, self._unflushed = [], 0

    def close(self) -> None:
        """Flush, and end the files."""
        self.flush()
        self._data.close()
        self._index.close()


def _write(stream: Any, content: bytes, start: int) -> None:
    """All of it at this offset, or nothing: a file that was not whole would shift every record after it."""
    try:
        stream.seek(start)
        left = memoryview(content)
        while left:
            left = left[stream.write(left) :]
    except OSError:
        stream.truncate(start)
        stream.seek(start)
        raise
