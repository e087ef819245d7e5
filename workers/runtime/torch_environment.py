"""A process's environment for torch, set before its import: how threads wait, and how a GPU's memory is taken."""

from __future__ import annotations

import os

from workers.runtime.gpu_memory import set_allocator

WAIT_POLICY = "OMP_WAIT_POLICY"
# What says how OpenMP's threads wait: OpenMP's own variable, GCC's (torch's OpenMP), and LLVM's and Intel's.
WAIT_VARIABLES = (WAIT_POLICY, "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")


def prepare_torch() -> None:
    """Set for this process and those that it starts what torch and OpenMP read once; the user's own settings stay."""
    set_allocator()
    set_waiting()


def set_waiting() -> None:
    """Have OpenMP's threads sleep where they wait for each other, rather than spin.

    A thread that spins keeps its core from the one that it waits for, where another process wants the core too: on two
    cores the same decode of 64 segments took 0.5 s or 12 s. GCC's runtime, which torch brings, and LLVM's and Intel's
    read the policy when they are loaded (https://www.openmp.org/spec-html/5.0/openmpse55.html). The user's own setting
    stays, in whichever of WAIT_VARIABLES it is.
    """
    if not any(variable in os.environ for variable in WAIT_VARIABLES):
        os.environ[WAIT_POLICY] = "PASSIVE"


def waiting() -> dict[str, str]:
    """What of the environment says how threads wait, for a process elsewhere that does not inherit it."""
    return {variable: os.environ[variable] for variable in WAIT_VARIABLES if variable in os.environ}
