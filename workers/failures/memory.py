"""Who holds the memory that ran out: the process that asked for more, or others (no torch is loaded)."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNITS = {"bytes": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
# A CUDA context, kernels and libraries that torch does not count: up to 1.5 GiB seen on an H100.
UNCOUNTED = 2 * 2**30
# Of a machine's memory, what its system and others may take without being to blame.
USUAL_ON_HOST = 0.25
SIZE = r"([\d.]+) (bytes|[KMGT]iB)"
# Torch's words (c10/cuda/CUDACachingAllocator.cpp, c10/core/impl/alloc_cpu.cpp) and NumPy's.
ASKED = re.compile(rf"[Tt]ried to allocate {SIZE}|Unable to allocate {SIZE}")
CAPACITY = re.compile(rf"total capacity of {SIZE} of which {SIZE} is free")
OWN = re.compile(rf"this process has {SIZE} memory in use")
ALLOWED = re.compile(rf"{SIZE} allowed")
BY_TORCH = re.compile(rf"{SIZE} is (?:allocated by PyTorch|reserved by PyTorch but unallocated)")


@dataclass(frozen=True, slots=True)
class Held:
    """A memory's bytes: all, what is free, what this process holds, and what it may hold."""

    total: int
    free: int
    own: int
    share: int

    @property
    def others(self) -> int:
        return max(self.total - self.free - self.own, 0)


def filled_by_others(text: str, gpu: Callable[[], Held | None], host: Callable[[], Held | None]) -> str | None:
    """That others hold what this process was denied, in words; None when what it asked for is beyond its share.

    text: of the exception. gpu, host: measure, where the text does not say. Without a measurement it is None.
    """
    asked = _bytes_in(ASKED, text)
    if "Allocator" in text or "Unable to allocate" in text:
        held = host() if asked else None
        usual = int(held.total * USUAL_ON_HOST) if held else 0
        return _denied(held, asked, usual, "the machine's memory") if held and held.free < asked else None
    held = _said(text) or gpu()
    return _denied(held, asked, UNCOUNTED, "the GPU's memory") if held else None


def _denied(held: Held, asked: int, usual: int, what: str) -> str | None:
    """usual: bytes that others may hold without being to blame."""
    theirs = held.others - (held.total - held.share)
    if theirs <= usual or held.own + asked + usual > held.share:
        return None
    others, total, own = (f"{size / 2**30:.1f}" for size in (held.others, held.total, held.own))
    return f"{others} of {total} GiB of {what} are held by other processes, {own} by this one"


def gpu_held() -> Held | None:
    """The current GPU's memory; None where this process uses none."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    free, total = torch.cuda.mem_get_info()
    share = float(torch.cuda.get_per_process_memory_fraction())
    return Held(int(total), int(free), int(torch.cuda.memory_reserved()), int(share * total))


def host_held() -> Held | None:
    """This machine's memory; None where the system does not say (https://docs.kernel.org/filesystems/proc.html)."""
    table, own = Path("/proc/meminfo"), Path("/proc/self/statm")
    if not table.is_file() or not own.is_file():
        return None
    lines = dict(line.split(":", 1) for line in table.read_text().splitlines())
    total, free = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    resident = int(own.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return Held(total, free, resident, total)


def _said(text: str) -> Held | None:
    """What torch's message says of a GPU's memory."""
    found = CAPACITY.search(text)
    if found is None:
        return None
    total, free = _bytes(found[1], found[2]), _bytes(found[3], found[4])
    own = _bytes_in(OWN, text) or sum(_bytes(*pair) for pair in BY_TORCH.findall(text))
    return Held(total, free, own, _bytes_in(ALLOWED, text) or total)


def _bytes_in(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.search(text)
    if found is None:
        return 0
    number, unit = (group for group in found.groups() if group)
    return _bytes(number, unit)


def _bytes(number: str, unit: str) -> int:
    return int(float(number) * UNITS[unit])
