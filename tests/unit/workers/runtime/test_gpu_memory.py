"""How torch takes a GPU's memory."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from types import SimpleNamespace

import pytest
import torch

from workers.runtime.gpu_memory import (
    ALLOCATOR_SETTINGS,
    ALLOCATOR_VARIABLES,
    bytes_left_behind,
    free_memory,
    leave_to_stay,
    release_memory,
    set_allocator,
    usable_memory,
)

# Torch is loaded first, as in a process of Ray Train's; then a tenth of the GPU is the limit.
PROCESS = """
import torch
from workers.runtime.gpu_memory import limit_memory, set_allocator, usable_memory

set_allocator()
limit_memory(0.1)
print(0.09 < usable_memory() / torch.cuda.get_device_properties(0).total_memory < 0.11)
kept = torch.ones(2**20, device="cuda")
settings = torch.cuda.memory._snapshot()["allocator_settings"]
print(settings["expandable_segments"])
try:
    torch.empty(torch.cuda.get_device_properties(0).total_memory // 5, dtype=torch.uint8, device="cuda")
except torch.OutOfMemoryError:
    print("limited")
"""


# cuBLAS keeps a workspace for every stream that it has multiplied in.
STREAMS = """
import torch
from workers.runtime.gpu_memory import bytes_left_behind

one = torch.ones(64, 64, device="cuda")
for _ in range(32):
    with torch.cuda.stream(torch.cuda.Stream()):
        one @ one
torch.cuda.synchronize()
print(torch.cuda.memory_allocated() > 32 * 2**20, bytes_left_behind() < 2**20)
"""


class Ring:
    """Refers to itself, so that only the collector finds it unused."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ALLOCATOR_VARIABLES:
        # Set first, so that what a test sets goes with it.
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)


def test_blocks_grow_unless_told_otherwise() -> None:
    set_allocator()
    assert os.environ["PYTORCH_ALLOC_CONF"] == ALLOCATOR_SETTINGS


@pytest.mark.parametrize("variable", ALLOCATOR_VARIABLES)
def test_the_users_settings_stay(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "max_split_size_mb:512")
    set_allocator()
    assert {name: os.environ.get(name) for name in ALLOCATOR_VARIABLES} == dict.fromkeys(ALLOCATOR_VARIABLES) | {
        variable: "max_split_size_mb:512"
    }


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_nothing_is_left_behind() -> None:
    assert bytes_left_behind() == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_what_cublas_keeps_is_not_left_behind() -> None:
    told = subprocess.run([sys.executable, "-c", STREAMS], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["True", "True"]


@pytest.mark.parametrize(("free", "share", "left"), [(60, 1.0, 65), (60, 0.5, 30), (5, 0.5, 10)])
def test_what_is_free_is_free_on_the_device_and_within_the_share(
    monkeypatch: pytest.MonkeyPatch, free: int, share: float, left: int
) -> None:
    for name, answer in (
        ("is_available", True), ("mem_get_info", (free, 80)), ("memory_reserved", 15), ("memory_allocated", 10),
        ("get_per_process_memory_fraction", share), ("get_device_properties", SimpleNamespace(total_memory=80)),
    ):  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, lambda *device, answer=answer: answer)
    assert usable_memory() == 80 * share
    assert free_memory(0) == left


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_torch_takes_the_settings_and_keeps_the_limit() -> None:
    told = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["True", "True", "limited"]


def test_what_stays_is_looked_through_no_more() -> None:
    ring = Ring()
    try:
        leave_to_stay()
        # What came before is out of sight, what comes after is collected as ever.
        assert not any(one is ring for one in gc.get_objects())
        later = Ring()
        gone = weakref.ref(later)
        del later
        release_memory()
        assert gone() is None
    finally:
        gc.unfreeze()
        gc.freeze()
