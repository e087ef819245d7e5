"""Searches from Python, as the commands `mtpareto search` and `mtpareto resume` run them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mtpareto.runs import Run, load_run
from orchestrator.search import start
from orchestrator.stopping.signals import RunningCommand
from orchestrator.stopping.terminal import console as of_the_process

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.study.spec import StudySpec


def search(study: StudySpec, console: Console | None = None) -> Run:
    """Run a study to its end in a new folder, on the cluster that it names or on a Ray of its own.

    console: where progress is shown; None is the process's output. Raises UserError, with nothing written, for what
    can't be done, and MachineError where the machine must be mended before `resume` continues. Call it from the main
    thread of a script, below `if __name__ == "__main__":`.
    """
    found = start.start_search(study.told_by(os.environ), console or of_the_process(), RunningCommand())
    return load_run(found.folder)


def resume(folder: str | Path, trials: int | None = None, console: Console | None = None) -> Run:
    """Continue the study in a run's folder; nothing that was measured is measured again.

    trials: a new, larger number of trials in all. Raises StudyError when a search is running there, and what `search`
    raises.
    """
    found = start.resume(Path(folder), console or of_the_process(), trials, RunningCommand())
    return load_run(found.folder)
