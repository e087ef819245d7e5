"""`mtpareto translate` with two processes, stopped in every way: nothing runs afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import pytest

from tests.support.paths import CAPTIONS, ROOT
from tests.support.signals import heed_signals


@pytest.mark.parametrize(
    ("stop", "code", "said"),
    [
        (lambda pid: os.killpg(pid, signal.SIGINT), 130, "stopped by SIGINT"),
        (lambda pid: os.kill(pid, signal.SIGTERM), 130, "stopped by SIGTERM"),
        (lambda pid: os.kill(pid, signal.SIGKILL), -9, ""),
    ],
    ids=["Ctrl-C", "SIGTERM", "SIGKILL"],
)
@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "loading"])
def test_nothing_is_left_running(stop: Callable[[int], None], code: int, said: str, loaded: bool) -> None:
    command = [sys.executable, "-m", "orchestrator.cli", "translate", "--model", str(CAPTIONS), "--devices", "cpu,cpu"]
    running = subprocess.Popen(
        [*command, "--source", "en", "--target", "de"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heed_signals,
    )  # fmt: skip
    assert running.stdin is not None and running.stdout is not None
    started: list[psutil.Process] = []
    if loaded:
        running.stdin.write("A dog runs in the park.\n")
        running.stdin.flush()
        assert running.stdout.readline() == "Ein Hund rennt im Park.\n"
        started = psutil.Process(running.pid).children(recursive=True)
    else:
        end = time.monotonic() + 120
        while not started and time.monotonic() < end:
            time.sleep(0.05)
            started = psutil.Process(running.pid).children(recursive=True)
    assert started
    stop(running.pid)
    _, told = running.communicate(timeout=60)
    assert running.returncode == code
    # Where its parent is killed, a process that is just being told what to do says so in Python's own way.
    assert said in told and ("Traceback" not in told or code == -signal.SIGKILL)
    _, left = psutil.wait_procs(started, timeout=20)
    assert left == []
