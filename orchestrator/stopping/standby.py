"""The process that stands by to write a stopped search's pages (`orchestrator.finish`), and the handing over."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.stopping.processes import SIGNALS
from orchestrator.stopping.terminal import STDERR

ROOT = Path(__file__).resolve().parents[2]
END_SECONDS = 5.0
# What the search's process becomes meanwhile, for who started it waits for its number. A second signal ends it, and,
# with its end of the pipe, the other process.
WAITER = f"""
import os, signal, sys
for number in {[int(number) for number in SIGNALS]}:
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {[int(number) for number in SIGNALS]})
code = os.waitstatus_to_exitcode(os.waitpid(int(sys.argv[1]), 0)[1])
os._exit(code if code >= 0 else 1)
"""


class Standby:
    """It, from its start on. terminal: the descriptor of what is standard error to the user."""

    def __init__(self, terminal: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.finish.after_stop"],
            stdin=subprocess.PIPE,
            stderr=terminal,
            env=importing(),
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, **order: Any) -> bool:
        """Say `load`, the search's folder; `ray`, its Ray's; `over`, that it has ended; `stopped`, by a signal or not.

        Returns whether it is there to hear it.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            return False
        return True

    def hand_over(self, stopped: bool) -> None:
        """Have it write the pages, and become who waits for it; returns only where it is gone."""
        assert self._process.stdin is not None
        if self.tell(stopped=stopped):
            become([sys.executable, "-S", "-E", "-c", WAITER, str(self.pid)], keep=self._process.stdin.fileno())

    def end(self) -> None:
        """It is not needed."""
        assert self._process.stdin is not None
        self.tell(over=True)
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def become(command: list[str], keep: int = STDERR) -> None:
    """exec: the same process, none of its threads, and none of its open files but the standard ones and one more."""
    for descriptor in Path("/dev/fd").iterdir():
        number = int(descriptor.name)
        try:
            fcntl.fcntl(number, fcntl.F_SETFD, fcntl.FD_CLOEXEC if number > STDERR and number != keep else 0)
        except OSError:
            # It listed the folder itself.
            continue
    # A timer that some library set would outlive its handler, and kill.
    for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(timer, 0.0)
    # A second signal waits until the new program can take it.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    os.execve(command[0], command, importing())


def importing() -> dict[str, str]:
    """The environment in which this project is found."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
