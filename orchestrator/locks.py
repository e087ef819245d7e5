"""Locks on files: one search a folder, one writer a ledger. However its holder ends, the kernel lets a lock go."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from filelock import FileLock, Timeout

from search_spaces.errors import StudyError


def hold(file: Path, seconds: float, busy: str) -> AbstractContextManager[object]:
    """Take the lock that `file` stands for, waiting at most `seconds`; raises StudyError(busy) if it stays taken.

    It is held until the end of a `with`, until what is returned is dropped, or until the process ends.
    """
    try:
        return FileLock(file, timeout=seconds, thread_local=False).acquire()
    except Timeout as error:
        raise StudyError(busy) from error
