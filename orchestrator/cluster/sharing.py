"""How many trials share a GPU where a study does not say: as many as its memory, the host's and the CPUs hold.

One trial alone leaves a large GPU idle for most of the time: it reads, writes and scores, and a small model's kernels
take less time than asking for them.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

# Trials that share a GPU at most, and CPUs that each has at least.
MOST, LEAST_CPUS = 4, 2
# Of a GPU's memory, what is left to tensors; of that, a trial takes so many times what translating does while it
# compresses (7 billion parameters: 35 GB to 15 of weights).
USABLE, COMPRESSING = 0.9, 2.0
# Of the host's memory: each trial's share of it holds the model twice, and this much of libraries and buffers.
USABLE_HOST, PROCESS_BYTES = 0.8, 6 * 10**9


@dataclass(frozen=True, slots=True)
class Machine:
    """What trials share."""

    gpus: float
    gpu_bytes: int
    """Of the smallest GPU's memory."""
    cpus: float
    host_bytes: int
    """Of memory that is available."""


def gpu_memory() -> int | None:
    """Bytes of the smallest GPU of this machine, by nvidia-smi; None where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [int(line) for line in done.stdout.split() if line.isdigit()]
    return min(found) * 2**20 if found else None


def trials_a_gpu(machine: Machine, translating: int, training: int, model: int, trials: int) -> int:
    """How many trials share each GPU, at least 1.

    translating, training: bytes of GPU memory that a trial takes for it; training 0 where nothing is trained. model:
    bytes of the model on disk. trials: of the study.
    """
    if machine.gpus < 1:
        return 1
    by_gpu = USABLE * machine.gpu_bytes / max(COMPRESSING * translating, training, 1)
    by_host = USABLE_HOST * machine.host_bytes / (2 * model + PROCESS_BYTES) / machine.gpus
    by_cpus = machine.cpus / LEAST_CPUS / machine.gpus
    return max(int(min(by_gpu, by_host, by_cpus, trials / machine.gpus, MOST)), 1)


def share_of(trials: int) -> float:
    """The share of a GPU that each of so many trials takes, cut to hundredths so that they fit."""
    return 100 // trials / 100
