"""Locks on files, for processes that share a folder. However its holder ends, the kernel lets a lock go."""

from __future__ import annotations

import errno
import logging
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from filelock import FileLock

# What flock answers on file systems that have no locks.
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
POLL_SECONDS = 0.1

log = logging.getLogger(__name__)


def hold(file: Path, seconds: float | None = None) -> AbstractContextManager[object]:
    """Take the lock that `file`, made where it is missing, stands for; raises TimeoutError after `seconds`, if given.

    It is held until the end of a `with`, until what is returned is dropped, or until the process ends. On a file system
    without locks it is nobody's, and a warning says so.
    """
    lock = FileLock(file, -1 if seconds is None else seconds, thread_local=False, fallback_to_soft=False)
    try:
        return lock.acquire(poll_interval=POLL_SECONDS)
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        log.warning("%s can't be locked (%s): see to it that nobody else works there", file.parent, error.strerror)
        return nullcontext()
