"""The processes that this one started, and that these started: found also when their parents are gone, and killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130
LOST = 1
# Stands in the environment of all that a local Ray starts; its value is that Ray's folder.
MARK = "MTPARETO_LOCAL_RAY"
WAIT_SECONDS = 0.2


def descendants() -> list[psutil.Process]:
    """What this process started, what these started, and so on."""
    return [process for process in psutil.Process().children(recursive=True) if alive(process)]


def find_marked(mark: str) -> list[psutil.Process]:
    """All processes but this one that belong to the local Ray of this folder, by the mark in their environment or by a
    file of that folder that they have open: also those whose parents are gone.

    Ray's agents write their titles over their environment. They outlive their raylet by a minute, in which they look
    for the GCS.
    """
    others = (process for process in psutil.process_iter() if process.pid != os.getpid())
    return [process for process in others if _belongs(process, mark) and alive(process)]


def kill(find: Callable[[], Iterable[psutil.Process]], seconds: float = 3.0) -> list[int]:
    """SIGKILL what is found until that is nothing, for at most so long; returns the numbers of what is left."""
    end = time.monotonic() + seconds
    while (left := list(find())) and time.monotonic() < end:
        for process in left:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(left, timeout=WAIT_SECONDS)
    return [process.pid for process in left]


def alive(process: psutil.Process) -> bool:
    """Whether it runs: neither gone nor a zombie."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _belongs(process: psutil.Process, folder: str) -> bool:
    try:
        if process.uids().real != os.getuid():
            return False
        return process.environ().get(MARK) == folder or _has_open(process.pid, folder)
    except (psutil.Error, OSError):
        return False


def _has_open(pid: int, folder: str) -> bool:
    """Whether the process has a file of that folder open, should it have been removed since too."""
    targets = (_target(descriptor) for descriptor in Path(f"/proc/{pid}/fd").iterdir())
    return any(target.startswith(f"{folder}/") for target in targets)


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:
        # Closed meanwhile.
        return ""
