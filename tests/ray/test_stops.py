"""A local search's Ray: out of reach of others and of the search's signals, in a short folder, missed when lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from orchestrator.cluster.local_ray import SERVERS
from orchestrator.stopping.processes import MARK, alive
from tests.ray.conftest import Running, trials

Start = Callable[..., Running]
WILDCARDS = ("0.0.0.0", "::", "::ffff:0.0.0.0")
# From the death of one of Ray's servers to the end of the search, its pages written.
LOST_SECONDS = 15.0


def server(command: Running, name: str) -> psutil.Process:
    (found,) = (child for child in psutil.Process(command.process.pid).children() if child.name() == name)
    return found


def listening(pid: int) -> list[tuple[str, str, int]]:
    """Name, address and port of each socket on which the process or a descendant listens."""
    driver = psutil.Process(pid)
    return [
        (process.name(), found.laddr.ip, found.laddr.port)
        for process in (driver, *driver.children(recursive=True))
        for found in process.net_connections("tcp")
        if found.status == psutil.CONN_LISTEN
    ]


def test_a_local_search_listens_on_the_loopback_alone_and_in_sessions_of_its_own(
    runs: Path, tmp_path: Path, small_study: list[str], running: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a Slurm job's; no socket's name may be so long.
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    folder = runs / "alone"
    command = running("search", *small_study, "--space", "bit-width", "--trials", "3", "--out", str(folder))
    command.wait_until(lambda: len(trials(folder)) >= 1)
    found = listening(command.process.pid)
    assert len(found) > 5
    assert [one for one in found if one[1] in WILDCARDS or not one[1].removeprefix("::ffff:").startswith("127.")] == []
    driver = os.getsid(command.process.pid)
    sessions = {name: os.getsid(server(command, name).pid) for name in SERVERS}
    assert driver not in sessions.values() and len(set(sessions.values())) == len(SERVERS)
    everything = [
        command.process.pid,
        *(one.pid for one in psutil.Process(command.process.pid).children(recursive=True)),
    ]

    started = [" ".join(child.cmdline()) for child in psutil.Process(command.process.pid).children()]
    unread = ("monitor.py", "dashboard.py")
    assert not [words for words in started if any(name in words for name in unread)], "a server that nobody reads"
    ray_folder = Path(server(command, "raylet").environ()[MARK])
    assert ray_folder.parent != long and ray_folder.stat().st_mode & 0o777 == 0o700
    # The driver alone is killed, as by the kernel: what it started ends with it.
    os.kill(command.process.pid, signal.SIGKILL)
    command.process.wait()
    end = time.monotonic() + 20
    while (left := [pid for pid in everything if psutil.pid_exists(pid)]) and time.monotonic() < end:
        time.sleep(0.2)
    assert left == []
    assert not ray_folder.exists()


@pytest.mark.parametrize("name", SERVERS)
def test_a_search_whose_ray_is_killed_has_its_pages_and_resumes(
    runs: Path, small_study: list[str], running: Start, name: str
) -> None:
    folder = runs / "lost"
    command = running("search", *small_study, "--space", "bit-width", "--trials", "6", "--out", str(folder))
    command.wait_until(lambda: len(trials(folder)) >= 2)
    started = psutil.Process(command.process.pid).children(recursive=True)
    server(command, name).kill()
    began = time.monotonic()
    code, output = command.end()
    assert time.monotonic() - began < LOST_SECONDS
    assert code == 1, output
    assert not [child.pid for child in started if alive(child)]
    assert f"Ray's {name} has ended under the search" in output
    assert f"resume with: mtpareto resume {folder}" in output
    assert "Traceback" not in output and len(output) < 8000
    assert (folder / "report.html").is_file() and "MLflow    sqlite" in output
