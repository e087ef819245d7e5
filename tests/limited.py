"""A worker that can't write large files, as on a file system that allows none; the limit is of the process."""

from __future__ import annotations

import resource
from typing import Any

from workers import actor

# Less than the first artefacts of the shipped model, more than anything that its baseline writes.
LARGEST = 5_000_000


class Limited(actor.CompressionTrial):
    """The kernel writes no byte of any file beyond LARGEST."""

    def setup(self, *args: Any, **kwargs: Any) -> None:
        super().setup(*args, **kwargs)
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, hard))
