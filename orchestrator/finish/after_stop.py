"""What a stopped search becomes (`orchestrator.stopping`): its pages and MLflow, written from the ledger without Ray.

Loading what writes them takes seconds, so a search keeps a process that has done so and stands by: lines of JSON on its
standard input say what there is to know, and then to do. Where they end before they say so, the search was killed: then
this process sees to it that nothing of its Ray stays behind. What is written is whole or not there.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import signal
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.stopping import processes
from orchestrator.stopping.processes import INTERRUPTED, LOST, SIGNALS
from search_spaces.errors import UserError

if TYPE_CHECKING:
    from orchestrator.results.intervals import Known
    from orchestrator.results.resampling import Resampling

# The search that hands over holds the folder until it is another program.
LOCK_SECONDS = 5.0
# How often the samples of newly ended trials are drawn.
RESAMPLE_SECONDS = 5.0
# Of loading: 4 s of a CPU, at the time when a search's own processes load too.
LOADING_NICENESS = 10
# MLflow may have to be reached over a network: what is not written by then stays due.
MLFLOW_SECONDS = 5.0
MLFLOW_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "3"}


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 130 for a search that a signal stopped, 1 for one that lost its Ray, 0 where the last trial was
    over before."""
    parser = argparse.ArgumentParser(prog="orchestrator.finish.after_stop", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="the search's folder; without it, wait until it is told")
    parser.add_argument("--stopped", action="store_true", help="a signal stopped the search; else Ray was lost")
    options = parser.parse_args(arguments)
    os.environ.update(MLFLOW_IMPATIENT)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    if options.folder is not None:
        end_at_once()
        return finish(options.folder, options.stopped)
    for number in SIGNALS:
        # They are the search's, which this process shares a terminal or a job with.
        signal.signal(number, signal.SIG_IGN)
    orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_hear, args=(orders,), daemon=True).start()
    return stand_by(orders)


def stand_by(orders: queue.SimpleQueue[dict[str, Any]]) -> int:
    """Load, draw bootstrap samples of trials as they end, and finish when that is the order; returns the exit code."""
    folder, resampling = Path(), None
    while True:
        try:
            order = orders.get(timeout=RESAMPLE_SECONDS)
        except queue.Empty:
            if resampling is not None:
                resampling.nudge()
            continue
        if "stopped" in order:
            return finish(folder, order["stopped"], resampling.samples if resampling else None)
        folder = Path(order["load"])
        with suppress(UserError), ThreadPoolExecutor(1, initializer=_be_nice) as apart:
            # Else `finish` says it.
            resampling = apart.submit(load, folder).result()


def finish(folder: Path, stopped: bool, known: Known | None = None) -> int:
    """Write everything; returns the exit code. known: bootstrap samples that were drawn already."""
    from orchestrator.finish.run_folder import report_again
    from orchestrator.stopping.terminal import console, lasting_streams, spell_resume

    code = INTERRUPTED if stopped else LOST
    with lasting_streams():
        try:
            found = report_again(folder, console(), False, known, MLFLOW_SECONDS, patience=LOCK_SECONDS)
        except UserError as error:
            print(f"error: {error}\n{spell_resume(folder)}", file=sys.stderr)
            return code
    return code if found.interrupted else 0


def load(folder: Path) -> Resampling:
    """Import what `finish` needs, and reach MLflow once; returns what draws its bootstrap samples."""
    import matplotlib.figure  # noqa: F401
    import plotly.offline  # noqa: F401

    from orchestrator.finish.mirroring import mlflow_troubles
    from orchestrator.finish.run_folder import read_data, reopen
    from orchestrator.finish.wrap_up import connect
    from orchestrator.report.write_report import write_report  # noqa: F401
    from orchestrator.results.resampling import Resampling

    _, spec = reopen(folder)
    with suppress(*mlflow_troubles()):
        # It is told, and tried again, by who writes to it.
        connect(spec)
    return Resampling(spec.folder, read_data(spec), spec.seed)


def _be_nice() -> None:
    """Let the search, which starts meanwhile, have the CPU. Linux knows it of a thread, and of those that it starts."""
    if sys.platform == "linux":
        os.nice(LOADING_NICENESS)


def end_at_once() -> None:
    """Let signals, those that came meanwhile too, end the process; an ignored one stays ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _hear(orders: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Hand orders on. The end of the input is the end of this process, and of the Ray of a search that was killed."""
    ray_folder: str | None = None
    done = False
    for line in sys.stdin:
        order = json.loads(line)
        ray_folder = order.get("ray", ray_folder)
        done = done or "stopped" in order or "over" in order
        if "load" in order or "stopped" in order:
            orders.put(order)
    if ray_folder is not None and not done:
        processes.kill(lambda: processes.find_marked(ray_folder))
        shutil.rmtree(ray_folder, ignore_errors=True)
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    code = main()
    # MLflow's thread may still wait for a server.
    os._exit(code)
