"""A process for each device: lines are handed out as they are read, and written in the order in which they came.

Each process has the whole model. It ends with this one, however this one ends, and an error in one ends all.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.stopping.processes import LOST, SIGNALS
from search_spaces.errors import StudyError, UserError
from workers.evaluation.attempt import unless_machine
from workers.failures.table import LONGEST_MESSAGE, MachineError, MachineFault
from workers.translation.prompt_file import Asking

if TYPE_CHECKING:
    from workers.translation.line_translator import LineTranslator, TranslatedLine

# Readings for each device that may be under way before the first of them is written.
AHEAD = 4
STDIN, STDOUT, STDERR = 0, 1, 2
# Read once: by OpenMP when torch is loaded, and by CUDA when it is first used.
THREADS = "OMP_NUM_THREADS"
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Loading:
    """What a process loads: a model's folder, how it is asked, and for which pair."""

    folder: Path
    asking: Asking
    source: str
    target: str
    trust_remote_code: bool

    def load(self, device_map: str) -> LineTranslator:
        """Raises what `LineTranslator` raises."""
        from workers.translation.line_translator import LineTranslator

        return LineTranslator(self.folder, self.asking, self.source, self.target, device_map, self.trust_remote_code)


def translate_on(
    devices: Sequence[str],
    loading: Loading,
    read: Callable[[], list[str]],
    write: Callable[[list[TranslatedLine]], None],
    loaded: Callable[[], None],
) -> None:
    """Translate all that is read, on all devices at once, and write it in order.

    read: the next lines; [] at the end. write: is given each reading's translations as soon as all before them are
    written. loaded: is called as each model is. A device's process starts when there are lines that no other is free
    for, the first one at once. Raises StudyError or MachineError, with the device, for the first error in a process. No
    process is left however it ends.
    """
    reading = _read_aside(read)
    team = _Team(devices, loading)
    found: dict[int, list[TranslatedLine]] = {}
    taken = written = 0
    over = False
    try:
        team.start_one()
        # A model that can't be loaded is said whatever is read.
        while not over or written < taken or not team.has_loaded:
            more = not over and team.wants_more and taken - written < AHEAD * len(devices)
            for ready in connection.wait([*team.connections, *([reading] if more else [])]):
                if ready is reading:
                    lines = reading.recv()
                    if isinstance(lines, Exception):
                        raise lines
                    over = not lines
                    if lines:
                        team.hand_out(taken, lines)
                        taken += 1
                elif (answer := team.answer_of(ready)) is None:
                    loaded()
                else:
                    number, translated = answer
                    found[number] = translated
            while written in found:
                write(found.pop(written))
                written += 1
    finally:
        team.end()


def _read_aside(read: Callable[[], list[str]]) -> Connection:
    """Where what a thread reads can be waited for and received; an error takes the place of lines."""
    receiving, sending = get_context("spawn").Pipe(duplex=False)

    def run() -> None:
        lines = [""]
        while lines:
            try:
                lines = read()
            except Exception as error:
                send(error)
                return
            if not send(lines):
                return

    def send(what: list[str] | Exception) -> bool:
        """Whether somebody receives it."""
        try:
            sending.send(what)
        except OSError:
            return False
        return True

    threading.Thread(target=run, name="lines", daemon=True).start()
    return receiving


@dataclass(slots=True)
class _Member:
    """A device's process."""

    device: str
    process: Any
    connection: Connection
    busy_with: int | None = None
    """The number of the reading that it translates."""
    loaded: bool = False

    @property
    def free(self) -> bool:
        return self.loaded and self.busy_with is None


class _Team:
    """The processes that were started, and what waits for one of them."""

    def __init__(self, devices: Sequence[str], loading: Loading) -> None:
        self._context = get_context("spawn")
        self._loading = loading
        self._left = deque(devices)
        cpus = sum(device.startswith("cpu") for device in devices)
        self._threads = max(1, (os.cpu_count() or 1) // cpus) if cpus else None
        self._members: dict[Connection, _Member] = {}
        self._waiting: deque[tuple[int, list[str]]] = deque()

    @property
    def connections(self) -> list[Connection]:
        return list(self._members)

    @property
    def wants_more(self) -> bool:
        """Whether some process would have nothing to do but for another reading."""
        idle = sum(member.busy_with is None for member in self._members.values())
        return len(self._waiting) < idle + len(self._left)

    @property
    def has_loaded(self) -> bool:
        return any(member.loaded for member in self._members.values())

    def start_one(self) -> None:
        """Start the process of the next device."""
        device = self._left.popleft()
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=serve, args=(theirs, self._loading, device, self._threads), name=f"translate-{device}", daemon=True
        )
        # Started with the first process otherwise, and that lets SIGINT and SIGTERM through again.
        resource_tracker.ensure_running()
        # It is ended by this process alone: a signal to the whole group would have it end, or say so, by itself.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self._members[ours] = _Member(device, process, ours)

    def hand_out(self, number: int, lines: list[str]) -> None:
        """Give lines to a process that is free, or have them wait for the next one that is."""
        self._waiting.append((number, lines))
        for member in self._members.values():
            self._occupy(member)
        loading = sum(not member.loaded for member in self._members.values())
        if len(self._waiting) > loading and self._left:
            self.start_one()

    def answer_of(self, ready: Any) -> tuple[int, list[TranslatedLine]] | None:
        """A reading's number and its translations; None where a process says that it is loaded."""
        member = self._members[ready]
        try:
            answer = ready.recv()
        except (EOFError, OSError) as error:
            raise MachineError(_lost(member)) from error
        if isinstance(answer, MachineFault):
            raise MachineError(answer, f" It happened on {member.device}.")
        if isinstance(answer, str):
            raise StudyError(f"{member.device}: {answer}")
        number, member.busy_with, member.loaded = member.busy_with, None, True
        self._occupy(member)
        return None if number is None else (number, answer)

    def end(self) -> None:
        """End all of them, whatever they do."""
        for member in self._members.values():
            member.process.kill()
        for member in self._members.values():
            member.process.join()
            member.connection.close()

    def _occupy(self, member: _Member) -> None:
        if member.free and self._waiting:
            member.busy_with, lines = self._waiting.popleft()
            try:
                member.connection.send(lines)
            except OSError as error:
                raise MachineError(_lost(member)) from error


def _lost(member: _Member) -> MachineFault:
    member.process.join()
    return MachineFault(
        what=f"the process on {member.device} was lost",
        stage="translate",
        message=f"it ended with exit code {member.process.exitcode}",
        mend="see whether the system ran out of memory, or name fewer devices with --devices",
    )


def serve(parent: Connection, loading: Loading, device: str, threads: int | None) -> None:
    """A process's life: load the model, say so with None, and answer lines with their translations until it is ended.

    What goes wrong is its last answer: the machine's fault, or a line of text. threads: of its own on a CPU.
    """
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    os.dup2(os.open(os.devnull, os.O_RDONLY), STDIN)
    # What a library prints must not stand among the lines.
    os.dup2(STDERR, STDOUT)
    logging.basicConfig(level=logging.WARNING, format=f"%(levelname)s: {device}: %(message)s", stream=sys.stderr)
    if threads is not None and device.startswith("cpu"):
        os.environ.setdefault(THREADS, str(threads))
    try:
        fault = unless_machine(lambda: _answer(parent, loading, alone(device)), "translate")
    except MachineError as error:
        _tell(parent, error.fault)
    except UserError as error:
        _tell(parent, str(error))
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        _tell(parent, said[:LONGEST_MESSAGE])
    else:
        _tell(parent, fault)


def _answer(parent: Connection, loading: Loading, device: str) -> None:
    translator = loading.load(device)
    _tell(parent, None)
    while True:
        try:
            lines = parent.recv()
        except EOFError:
            os._exit(LOST)
        _tell(parent, translator(lines))


def _tell(parent: Connection, what: object) -> None:
    """Send it; where nobody is left to receive it, end."""
    try:
        parent.send(what)
    except OSError:
        os._exit(LOST)


def alone(device: str, environment: MutableMapping[str, str] = os.environ) -> str:
    """What a device is called where it is the only one of its kind; of GPUs this process then sees no other.

    Some steps of loading and decoding take the first GPU that a process sees.
    """
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return device
    seen = [one for one in environment.get(VISIBLE, "").split(",") if one]
    at = int(number or 0)
    environment[VISIBLE] = seen[at] if seen else str(at)
    return "cuda:0"


def _end_with_parent() -> None:
    """End this process as soon as the one that started it is gone."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(LOST)
