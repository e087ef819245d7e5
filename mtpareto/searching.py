"""Searches from Python, as the commands `mtpareto search` and `mtpareto resume` run them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mtpareto.runs import Run, load_run
from orchestrator import environment
from orchestrator.ledger.records import read_ledger
from orchestrator.stopping.signals import RunningCommand, quiet_ray
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
    study = study.told_by(os.environ)
    environment.prepare(study.address)
    work = RunningCommand()
    with quiet_ray(work):
        from orchestrator.search.driver import run_search

        found = run_search(study, console or of_the_process(), work)
    return load_run(found.folder)


def resume(folder: str | Path, trials: int | None = None, console: Console | None = None) -> Run:
    """Continue the study in a run's folder; nothing that was measured is measured again.

    trials: a new, larger number of trials in all. Raises StudyError when a search is running there, and what `search`
    raises.
    """
    environment.prepare(read_ledger(Path(folder)).header["spec"]["address"])
    work = RunningCommand()
    with quiet_ray(work):
        from orchestrator.search.driver import resume_search

        found = resume_search(Path(folder), console or of_the_process(), trials, work)
    return load_run(found.folder)
