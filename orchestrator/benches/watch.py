"""What a bench watches while it runs: how busy the first GPU is, and how many bytes a folder takes."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

SAMPLE_MILLISECONDS = 200
LOOK_SECONDS = 0.5


class GpuSampler:
    """The first GPU's utilization while it runs: `nvidia-smi`'s share of time in which a kernel was executing.

    Takes no sample where there is no nvidia-smi.
    """

    def __init__(self) -> None:
        self.samples: list[float] = []
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> GpuSampler:
        program = shutil.which("nvidia-smi")
        if program is not None:
            query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-i", "0"]
            command = [program, *query, "-lms", str(SAMPLE_MILLISECONDS)]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            self._thread = threading.Thread(target=self._read, name="gpu-sampler", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None and self._thread is not None:
            self._process.terminate()
            self._process.wait()
            self._thread.join()

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip().isdigit():
                self.samples.append(float(line) / 100)


def share_of_seconds(samples: Sequence[float], every: float = SAMPLE_MILLISECONDS / 1000) -> float:
    """The share of seconds in which any sample shows work; 0 without samples. every: seconds between two."""
    width = max(1, round(1 / every))
    seconds = [any(samples[start : start + width]) for start in range(0, len(samples), width)]
    return sum(seconds) / len(seconds) if seconds else 0.0


class DiskWatch:
    """The most bytes that a folder takes while it is looked at; hard links count once."""

    def __init__(self, folder: Path) -> None:
        self.peak = 0
        self._folder = folder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="disk-watch", daemon=True)

    def __enter__(self) -> DiskWatch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self.peak = max(self.peak, bytes_of(self._folder))


def bytes_of(folder: Path) -> int:
    """The bytes of the files in a folder; hard links count once, and what goes meanwhile does not."""
    sizes: dict[tuple[int, int], int] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                found = (Path(place) / name).lstat()
            except FileNotFoundError:
                continue
            sizes[found.st_dev, found.st_ino] = found.st_size
    return sum(sizes.values())
