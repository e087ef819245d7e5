"""`mtpareto ui`: MLflow's UI on the loopback, with a run's store, at the page of its study."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import IO, NamedTuple

from mlflow_tracking.mirror import EXPERIMENT
from mlflow_tracking.pages import Place, find_place, page
from mlflow_tracking.served_ui import APP_NAME
from mlflow_tracking.store import SQLITE, is_sqlite, sqlite_file
from orchestrator.finish.mirroring import mlflow_troubles, spell_trouble
from orchestrator.finish.run_folder import reopen
from orchestrator.study.spec import MLFLOW_VARIABLES
from search_spaces.errors import StudyError

HOST = "127.0.0.1"
DEFAULT_PORT = 5000
DEFAULT_STORE = f"{SQLITE}runs/mlflow.db"
# The server imports some hundred modules first.
START_SECONDS = 180.0
LOOK_SECONDS = 0.2
LINES_SAID = 12
ENDED_SECONDS = 2.0
# What no address can say to a server that is not ours (`mlflow_tracking.served_ui`).
TOP_LEFT = (
    '          a run comes up among pages of GenAI? Choose "Model training" at the top left: the browser remembers it'
)


class Shown(NamedTuple):
    """What is to be shown."""

    uri: str
    """The store's tracking URI."""
    place: Place | None
    """Where a study stands in it; None for all that it has."""


def show(run: Path | None, port: int, browse: bool, say: Callable[[str], None]) -> int:
    """Serve the store of a run's folder until the server ends; returns the exit code. run: None takes the store that
    MLFLOW_TRACKING_URI names, else `runs/mlflow.db`. port: 0 takes a free one. browse: open a browser.

    Raises StudyError for a store or a study that is not there, and for a port that is in use.
    """
    shown = shown_of(run, os.environ)
    if not is_local(shown.uri):
        say(f"MLflow    {page(shown.uri.rstrip('/'), shown.place)}")
        say(TOP_LEFT)
        if browse:
            _browse(page(shown.uri.rstrip("/"), shown.place))
        return 0
    _refuse_older_installation()
    port = free_port(port)
    with tempfile.TemporaryFile() as log, _server(shown.uri, port, log) as server:
        address = f"http://{HOST}:{port}"
        say(f"MLflow    starting, with {shown.uri}")
        _wait(server, address, log)
        say(f"MLflow    {page(address, shown.place)}   (Ctrl-C ends it)")
        if browse:
            _browse(page(address, shown.place))
        code = server.wait()
        # A signal ends what this command started before the command itself (`orchestrator.stopping`).
        time.sleep(ENDED_SECONDS)
        raise StudyError(f"MLflow's server has ended by itself, with code {code}; it said:\n{_last_lines(log)}")


def shown_of(run: Path | None, environ: Mapping[str, str]) -> Shown:
    """The store to be shown, and where the run's study stands in it; raises StudyError where it is not there."""
    if run is None:
        variable = MLFLOW_VARIABLES["tracking_uri"]
        named = environ.get(variable)
        uri = named or DEFAULT_STORE
        _refuse_missing(uri, f", which {variable} names" if named else "", "name a run's folder: mtpareto ui RUN")
        return Shown(uri, None)
    _, spec = reopen(run)
    way_out = f"write it with: mtpareto mirror {run}"
    _refuse_missing(spec.mlflow_uri, "", way_out)
    try:
        place = find_place(spec.mlflow_uri, str(spec.folder), spec.folder.name, spec.experiment or EXPERIMENT)
    except mlflow_troubles() as error:
        raise StudyError(f"the MLflow store {spec.mlflow_uri} can't be read: {spell_trouble(error)}") from error
    if place is None:
        raise StudyError(f"the study in {run} is not in the MLflow store {spec.mlflow_uri}; {way_out}")
    return Shown(spec.mlflow_uri, place)


def is_local(uri: str) -> bool:
    """Whether the store needs a server of ours to be looked at."""
    return not uri.startswith(("http://", "https://"))


def free_port(port: int) -> int:
    """The port, or a free one for 0; raises StudyError where somebody else has it."""
    with socket.socket() as probe:
        # A server that has just ended leaves its port waiting, which is no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise StudyError(
                f"port {port} of {HOST} can't be had ({error}); choose another with --port N, or any free one with "
                "--port 0"
            ) from error
        return int(probe.getsockname()[1])


def _refuse_missing(uri: str, named: str, way_out: str) -> None:
    if is_sqlite(uri) and not (sqlite_file(uri).is_file() and sqlite_file(uri).stat().st_size):
        raise StudyError(f"there is no MLflow store in {sqlite_file(uri)}{named}; {way_out}")


def _refuse_older_installation() -> None:
    """MLflow finds the app among the entry points of what is installed; a checkout can be newer than those."""
    if not entry_points(group="mlflow.app", name=APP_NAME):
        raise StudyError(
            "mtpareto was installed by an older version, without its app for MLflow; install it again: "
            "pip install -e . in its checkout"
        )


@contextmanager
def _server(uri: str, port: int, log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow's server in a session of its own: Ctrl-C in the terminal is heard by this command, which ends it."""
    command = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", HOST, "--port", str(port),
        "--workers", "1", "--app-name", APP_NAME,
    ]  # fmt: skip
    # Its jobs judge answers of language models: ten processes that nothing here needs.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    server = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
    )
    try:
        yield server
    finally:
        # A signal's end is that of all descendants (`orchestrator.stopping`); this is any other's.
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _wait(server: subprocess.Popen[bytes], address: str, log: IO[bytes]) -> None:
    """Wait until the server answers; raises StudyError where it ends before."""
    end = time.monotonic() + START_SECONDS
    while not _answers(address):
        if server.poll() is not None or time.monotonic() > end:
            how = "does not answer" if server.returncode is None else f"ended with code {server.returncode}"
            raise StudyError(f"MLflow's server {how}; it said:\n{_last_lines(log)}")
        time.sleep(LOOK_SECONDS)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _last_lines(log: IO[bytes]) -> str:
    log.seek(0)
    return "\n".join(log.read().decode("utf-8", "replace").splitlines()[-LINES_SAID:])


def _browse(url: str) -> None:
    """Open the page in the user's browser, where there is a desktop; a text browser would take the terminal.

    A process between lets the browser be no child of this command, which ends all its children.
    """
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    subprocess.run(
        [sys.executable, "-m", "webbrowser", url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )
