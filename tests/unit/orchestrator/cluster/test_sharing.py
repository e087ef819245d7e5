"""How many trials share a GPU: what its memory, the host's and the CPUs hold, and no more than the study has."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cluster.sharing import Machine, gpu_memory, share_of, trials_a_gpu

GB = 10**9
LARGE = Machine(gpus=1, gpu_bytes=150 * GB, cpus=16, host_bytes=128 * GB)
# Bytes of translating, of training and of the model: 7 billion parameters, and half a billion.
SEVEN, HALF = (22 * GB, 0, 15 * GB), (4 * GB, 0, GB)


@pytest.mark.parametrize(
    ("machine", "needed", "trials", "expected"),
    [
        (LARGE, SEVEN, 12, 2),
        (LARGE, HALF, 12, 4),
        (LARGE, HALF, 3, 3),
        (LARGE, HALF, 1, 1),
        (replace(LARGE, gpus=2), HALF, 3, 1),
        (replace(LARGE, gpu_bytes=85 * GB), SEVEN, 12, 1),
        (replace(LARGE, gpu_bytes=8 * GB), SEVEN, 12, 1),
        (replace(LARGE, cpus=4), HALF, 12, 2),
        (replace(LARGE, gpus=8, cpus=16), HALF, 60, 1),
        (replace(LARGE, host_bytes=60 * GB), SEVEN, 12, 1),
        (LARGE, (4 * GB, 29 * GB, GB), 12, 4),
        (LARGE, (22 * GB, 140 * GB, 15 * GB), 12, 1),
        (replace(LARGE, gpus=0), HALF, 12, 1),
    ],
)
def test_as_many_share_a_gpu_as_all_that_they_share_holds(
    machine: Machine, needed: tuple[int, int, int], trials: int, expected: int
) -> None:
    assert trials_a_gpu(machine, *needed, trials) == expected


def test_shares_fit_a_gpu() -> None:
    assert [share_of(count) for count in (1, 2, 3, 4)] == [1.0, 0.5, 0.33, 0.25]


def test_the_smallest_gpu_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = tmp_path / "nvidia-smi"
    said.write_text("#!/bin/sh\nprintf '81559\\n46068\\n'\n")
    said.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])
    assert gpu_memory() == 46068 * 2**20
    said.write_text("#!/bin/sh\necho 'No devices were found'\nexit 6\n")
    assert gpu_memory() is None
