"""How much of the host's memory a process may still take."""

from __future__ import annotations

from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")


def available_bytes(cgroup: Path = CGROUP) -> int:
    """What is available on this host, or in this container where that is less.

    Of a container's use, file pages that were not read lately can go, and count as available
    (https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files).
    """
    available = int(psutil.virtual_memory().available)
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text())
        pages = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return available
    if limit == "max":
        return available
    return min(available, int(limit) - used + int(pages.get("inactive_file", 0)))
