"""What a process may still take of the host's memory, in a container and out of one."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch

from workers.runtime.host_memory import PinnedAhead, available_bytes


def test_without_a_container_it_is_the_hosts(tmp_path: Path) -> None:
    there = psutil.virtual_memory().available
    assert abs(available_bytes(tmp_path) - there) < 0.2 * there


@pytest.mark.parametrize(("limit", "found"), [("1000000", 650_000), ("max", None)])
def test_a_container_has_less(tmp_path: Path, limit: str, found: int | None) -> None:
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text("400000\n")
    (tmp_path / "memory.stat").write_text("anon 350000\ninactive_file 50000\n")
    assert found is None or available_bytes(tmp_path) == found
    assert found is not None or available_bytes(tmp_path) > 10**6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_memory_that_was_pinned_ahead_holds_each_tensor_by_itself() -> None:
    ahead = PinnedAhead()
    values = [torch.full((3, 5), float(number), device="cuda") for number in range(4)]
    held = [ahead.to_host(value, again=number < 3) for number, value in enumerate(values)]
    ahead.close()
    assert [float(one[2, 4]) for one in held] == [0.0, 1.0, 2.0, 3.0] and all(one.is_pinned() for one in held)


def test_what_is_in_host_memory_stays_there() -> None:
    value = torch.ones(2)
    assert PinnedAhead().to_host(value, again=True) is value
