"""What a process may still take of the host's memory, in a container and out of one."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from workers.runtime.host_memory import available_bytes


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
