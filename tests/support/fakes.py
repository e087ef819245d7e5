"""Stand-ins for what a test must hold in its own hand: a clock, and faults of the disk."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class WatchedSync:
    """An `os.fsync` that notes what each file held when it was synced; a folder holds nothing."""

    def __init__(self) -> None:
        self._sync = os.fsync
        self.contents: list[tuple[Path, bytes]] = []

    def __call__(self, descriptor: int) -> None:
        file = Path(f"/proc/self/fd/{descriptor}").readlink()
        self.contents.append((file, file.read_bytes() if file.is_file() else b""))
        self._sync(descriptor)


class BrokenSync:
    """An `os.fsync` on a disk that has begun to fail."""

    def __call__(self, descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


class BrokenLock:
    """A `fcntl.flock` on a file system that answers every call with this error."""

    def __init__(self, error: int) -> None:
        self._error = error

    def __call__(self, descriptor: int, operation: int) -> None:
        raise OSError(self._error, os.strerror(self._error))


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """The kernel writes no byte of any file beyond `size`: a disk that fills up in the middle of a line."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
