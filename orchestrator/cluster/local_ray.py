"""A Ray of this search's own: on the loopback, in a folder of its own, its servers in process sessions of their own.

So neither another machine nor a signal to the driver's process group reaches it. It ends with the driver: the kernel
kills its servers when the driver's main thread ends, however that is, and its workers follow the raylet.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import ray
from ray._private import node, parameter

from orchestrator.stopping import processes
from orchestrator.stopping.terminal import STDERR
from search_spaces.errors import StudyError

# The longest name of a socket (sockaddr_un, less its last zero byte), and what Ray puts after its folder.
SOCKET_BYTES = 107
SESSION = "/ray/session_2026-01-31_23-59-59_999999_4194304/sockets/plasma_store"
PREFIX = "mtpareto-"
SHORT_FOLDERS = ("/tmp", "/dev/shm")
SERVERS = ("gcs_server", "raylet")


def start(settings: Mapping[str, Any], began: Callable[[Path], None]) -> Callable[[], str | None]:
    """Start Ray and connect to it; returns what says which of its servers is gone, None while all run.

    began: told of its folder before anything is started. Raises StudyError when there is no place for its sockets.
    """
    folder = new_folder(os.environ)
    began(folder)
    os.environ[processes.MARK] = str(folder)
    noise_to_stderr()
    try:
        with _sessions_of_their_own(), _no_more_servers_than_are_read():
            # "local": with no address Ray would join whatever cluster was last started on this machine.
            # Ray opens its own folder to everybody, but not the one around it.
            ray.init(address="local", include_dashboard=False, _temp_dir=str(folder / "ray"), **settings)
    finally:
        if not ray.is_initialized():
            processes.kill(lambda: processes.find_marked(str(folder)))
    servers = [process for process in psutil.Process().children() if process.name() in SERVERS]
    names = {process.pid: process.name() for process in servers}

    def lost() -> str | None:
        gone = [names[process.pid] for process in servers if not processes.alive(process)]
        return f"Ray's {gone[0]} has ended under the search" if gone else None

    return lost


def leave(folder: Path) -> None:
    """End it, and remove its folder."""
    ray.shutdown()
    processes.kill(lambda: processes.find_marked(str(folder)))
    os.environ.pop(processes.MARK, None)
    shutil.rmtree(folder, ignore_errors=True)


def new_folder(environ: Mapping[str, str]) -> Path:
    """A new folder for Ray's files, this user's alone: where RAY_TMPDIR or TMPDIR says, or, where that is too long for
    the names of sockets, in /tmp or /dev/shm. Raises StudyError when there is none."""
    named = next((name for name in ("RAY_TMPDIR", "TMPDIR") if environ.get(name)), None)
    if named is not None:
        _refuse_unusable(named, Path(environ[named]))
    asked = [environ[named]] if named else []
    for place in (*asked, *SHORT_FOLDERS):
        if fits(place) and os.access(place, os.W_OK | os.X_OK):
            return Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    raise StudyError(
        f"{' and '.join((*asked, *SHORT_FOLDERS))} can't hold Ray's sockets, whose names may have {SOCKET_BYTES} "
        "bytes; set RAY_TMPDIR to a short folder that you may write to"
    )


def fits(place: str) -> bool:
    """Whether the names of Ray's sockets, in a new folder there, are short enough."""
    return len(os.fsencode(f"{place}/{PREFIX}{'x' * 8}{SESSION}")) <= SOCKET_BYTES


def _refuse_unusable(name: str, folder: Path) -> None:
    why = None
    if not folder.is_dir():
        why = "is not a folder"
    elif not os.access(folder, os.W_OK | os.X_OK):
        why = "can't be written to"
    if why is not None:
        raise StudyError(f"{name} is {folder}, which {why}; make it, or set {name} to a folder that you may write to")


class _Unbuffered(logging.Handler):
    """Writes each message to the descriptor at once: what a full disk does not take is lost, and nothing kept of it
    comes out later elsewhere."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            os.write(STDERR, f"{self.format(record)}\n".encode())


def noise_to_stderr() -> None:
    """Send what Ray's libraries log where its servers' messages go: the process's standard error, not Python's."""
    handler = _Unbuffered()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger("ray").handlers[:] = [handler]


@contextmanager
def _no_more_servers_than_are_read() -> Iterator[None]:
    """Within it Ray starts without its autoscaler, its log monitor and its dashboard's server, which take 5 s of a CPU:
    a local Ray has no nodes to add, the driver reads no worker's output, and nobody is told of a dashboard. `ray.init`
    has no setting for the first two, and starts the third, for usage reports, where it is told to include none."""
    made, serve = parameter.RayParams, node.Node.start_api_server
    parameter.RayParams = partial(made, no_monitor=True, include_log_monitor=False)
    node.Node.start_api_server = _serve_nothing
    try:
        yield
    finally:
        parameter.RayParams, node.Node.start_api_server = made, serve


def _serve_nothing(self: Any, **settings: Any) -> None:
    """In place of the start of the dashboard's server."""
    self._webui_url = ""


@contextmanager
def _sessions_of_their_own() -> Iterator[None]:
    """Within it every program that is started has a session, and so a process group, of its own: Ray has no setting."""
    plain = subprocess.Popen.__init__

    def in_session(self: Any, *arguments: Any, **settings: Any) -> None:
        plain(self, *arguments, **settings | {"start_new_session": True})

    subprocess.Popen.__init__ = in_session  # type: ignore[method-assign]
    try:
        yield
    finally:
        subprocess.Popen.__init__ = plain  # type: ignore[method-assign]
