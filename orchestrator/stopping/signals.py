"""Ends a command within seconds of SIGINT, SIGTERM or SIGHUP, or of Ray's loss, whatever its main thread waits for.

A search that is stopped kills what it started and gives up its own threads and memory; another program
(`orchestrator.finish.after_stop`) writes the pages and MLflow from the ledger alone. So no state in which a signal
finds the search need be undone; what is on the ledger is on disk.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from orchestrator.stopping import processes
from orchestrator.stopping.processes import INTERRUPTED, SIGNALS
from orchestrator.stopping.standby import Standby, become
from orchestrator.stopping.terminal import STDERR, Noise, say
from search_spaces.errors import UserError
from workers.failures.table import MachineError

RAY_LOG = "ray.log"
# `timeout`, terminals and schedulers send one signal to a process and to its group: that is no second one.
ONE_SIGNAL_SECONDS = 0.3
LOOK_SECONDS = 0.5
OVER = 0


@dataclass(slots=True)
class RunningCommand:
    """What a command has under way when it must end."""

    ledger: Path | None = None
    """The search's ledger, already there or about to be."""
    lost: Callable[[], str | None] | None = None
    """Says what of Ray is gone, or None."""
    ray_folder: Path | None = None
    """Where a local Ray keeps its files."""
    noise: Noise | None = None
    """Where Ray's messages go, if they are kept from the user."""
    standby: Standby | None = None
    """Writes the search's pages if it is stopped; set only where `watched` is."""
    watched: bool = False
    """Whether somebody watches over this and ends the process (`stoppable`)."""

    @property
    def folder(self) -> Path | None:
        """Of the search whose pages are to be written, for its ledger is there."""
        return self.ledger.parent if self.ledger is not None and self.ledger.is_file() else None

    @property
    def terminal(self) -> int:
        """The descriptor of what is standard error to the user."""
        return STDERR if self.noise is None else self.noise.terminal

    def give_up(self, why: str) -> None:
        """Have who watches over this end the process, for this loss of Ray's; returns only where nobody does.

        An exception on the way goes to Ray's log.
        """
        if self.watched:
            if sys.exc_info()[0] is not None:
                os.write(STDERR, traceback.format_exc().encode())
            self.lost = lambda: why
            threading.Event().wait()

    def started(self) -> list[psutil.Process]:
        """All that was started for the work, but who stands by."""
        found = processes.descendants() + (processes.find_marked(str(self.ray_folder)) if self.ray_folder else [])
        return [process for process in found if self.standby is None or process.pid != self.standby.pid]

    def begin(self, ledger: Path) -> None:
        """A search has its ledger."""
        self.ledger = ledger
        if self.noise is not None:
            self.noise.move(ledger.with_name(RAY_LOG))
        self._stand_by(load=str(ledger.parent))

    def begin_ray(self, folder: Path) -> None:
        """A Ray of the command's own is about to start, with its files there."""
        self.ray_folder = folder
        self._stand_by(ray=str(folder))

    def _stand_by(self, **order: str) -> None:
        if not self.watched:
            return
        if self.standby is None:
            self.standby = Standby(self.terminal)
        self.standby.tell(**order)


@contextmanager
def stoppable(work: RunningCommand) -> Iterator[None]:
    """Within it the signals that are not ignored end the process as this module says; for the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    work.watched = True
    watch = _Watch(work)
    try:
        yield
    finally:
        watch.over()
        if work.standby is not None:
            work.standby.end()


@contextmanager
def quiet_ray(work: RunningCommand) -> Iterator[None]:
    """Within it Ray's own messages go to `ray.log` in the run's folder, and not to the user."""
    noise = work.noise = Noise()
    explained = False
    try:
        yield
        explained = True
    except (UserError, MachineError):
        explained = True
        raise
    finally:
        work.noise = None
        noise.end(tell=not explained)


class _Watch:
    """Two threads: one hears signals as they arrive, by Python's wakeup descriptor; one looks whether Ray lives.

    The first cause ends the process, from a third thread. A signal later than ONE_SIGNAL_SECONDS ends it at once.
    """

    def __init__(self, work: RunningCommand) -> None:
        self._work = work
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._ending = threading.Lock()
        self._is_over = threading.Event()
        self._heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        # Ray and Tune put handlers of their own in place of these; the wakeup descriptor hears of a signal anyway.
        self._before = {number: signal.signal(number, lambda *_: None) for number in self._heard}
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._listener = threading.Thread(target=self._listen, name="signals", daemon=True)
        self._listener.start()
        threading.Thread(target=self._look, name="ray-lost", daemon=True).start()

    def over(self) -> None:
        """The command has ended by itself; where a signal came first, this does not return."""
        self._is_over.set()
        os.write(self._write, bytes([OVER]))
        self._listener.join()
        with self._ending:
            signal.set_wakeup_fd(self._wakeup)
            for number, handler in self._before.items():
                signal.signal(number, handler)
            os.close(self._read)
            os.close(self._write)

    def _listen(self) -> None:
        first: float | None = None
        while True:
            select.select([self._read], [], [])
            for number in os.read(self._read, 64):
                if number == OVER and first is None:
                    return
                if number not in self._heard:
                    continue
                if first is None:
                    first = time.monotonic()
                    self._end(signal.Signals(number).name)
                elif time.monotonic() - first > ONE_SIGNAL_SECONDS:
                    os._exit(INTERRUPTED)

    def _look(self) -> None:
        while not self._is_over.wait(LOOK_SECONDS):
            look = self._work.lost
            lost = look() if look is not None else None
            # Who leaves Ray stops the looking first.
            if lost is not None and self._work.lost is not None:
                self._end(None, lost)
                return

    def _end(self, stopped_by: str | None, lost: str | None = None) -> None:
        """Begin the end, once; the lock is never given back, so that the main thread waits for it."""
        if self._ending.acquire(blocking=False):
            threading.Thread(target=end, args=(self._work, stopped_by, lost), name="ending", daemon=True).start()


def end(work: RunningCommand, stopped_by: str | None, lost: str | None) -> None:
    """Kill what was started, and end the process: as the writer of the search's pages, where there is a search."""
    try:
        _end(work, stopped_by, lost)
    finally:
        # Only where that failed; nobody would wait for this thread's end.
        os._exit(1)


def _end(work: RunningCommand, stopped_by: str | None, lost: str | None) -> None:
    began, folder = time.monotonic(), work.folder
    say(work.terminal, _spell(work, folder, stopped_by, lost))
    left = processes.kill(work.started)
    if left:
        say(work.terminal, f"these processes could not be ended: {', '.join(map(str, left))}")
    if work.ray_folder is not None and lost is None:
        shutil.rmtree(work.ray_folder, ignore_errors=True)
    time.sleep(max(0.0, began + ONE_SIGNAL_SECONDS - time.monotonic()))
    if folder is None and (folder := work.folder) is not None:
        # The main thread has made the ledger meanwhile.
        say(work.terminal, _spell(work, folder, stopped_by, lost))
    if folder is None:
        os._exit(INTERRUPTED if stopped_by else 1)
    _finish(work, folder, bool(stopped_by))


def _spell(work: RunningCommand, folder: Path | None, stopped_by: str | None, lost: str | None) -> str:
    if folder is None:
        return f"stopped by {stopped_by}" if stopped_by else f"{lost}; nothing was written"
    if stopped_by:
        return (
            f"stopping ({stopped_by}): the pages follow; a second signal ends at once, and loses nothing. Resume with: "
            f"mtpareto resume {folder}"
        )
    where = f" (its own files: {work.ray_folder})" if work.ray_folder else ""
    return f"{lost}{where}; the pages follow. Resume with: mtpareto resume {folder}"


def _finish(work: RunningCommand, folder: Path, stopped: bool) -> None:
    """End as the writer of the pages: through who stands by for it, else as that program itself."""
    os.dup2(work.terminal, STDERR)
    if work.standby is not None:
        work.standby.hand_over(stopped)
    more = ["--stopped"] if stopped else []
    become([sys.executable, "-m", "orchestrator.finish.after_stop", str(folder), *more])
