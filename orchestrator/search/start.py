"""The way into a search for the command and for Python: it answers at once, and only then loads Ray."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import environment
from orchestrator.ledger.records import read_ledger, refuse_taken
from orchestrator.stopping.signals import RunningCommand, quiet_ray

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.finish.wrap_up import SearchResult
    from orchestrator.study.spec import StudySpec


def start_search(spec: StudySpec, console: Console, work: RunningCommand) -> SearchResult:
    """Run a study in a new folder; raises what `driver.run_search` raises.

    A folder that is taken is refused, and the first line is printed, before anything is loaded or read. Where the study
    makes its baseline first, that is done, or gone on with.
    """
    spec = spec.absolute()
    refuse_taken(spec.folder)
    if spec.baseline:
        spec = _with_baseline(spec, console, work)
    say = f"search    {spec.model} on {spec.data_name}, {spec.trials} trials, results in {spec.folder}"
    console.print(say, markup=False, highlight=False, soft_wrap=True)
    environment.prepare(spec.address)
    with quiet_ray(work):
        from orchestrator.search.driver import run_search

        return run_search(spec, console, work)


def _with_baseline(spec: StudySpec, console: Console, work: RunningCommand) -> StudySpec:
    """The study on its baseline, which is made first, in a folder inside the run's."""
    environment.prepare(spec.address)
    from orchestrator.search.made_first import is_begun, study_of, with_made

    first = study_of(spec)
    steps = " + ".join(step.short_label() for step in spec.baseline)
    console.print(f"baseline  {steps}, made first", markup=False, highlight=False, soft_wrap=True)
    if is_begun(first):
        resume(first.folder, console, None, work)
    else:
        start_search(first, console, work)
    return with_made(spec)


def resume(folder: Path, console: Console, trials: int | None, work: RunningCommand) -> SearchResult:
    """Continue the study in a run's folder; raises what `driver.resume_search` raises. trials: a new, larger number."""
    ledger = read_ledger(folder)
    say = f"resume    {folder}, {len(ledger.trials)} outcomes known"
    console.print(say, markup=False, highlight=False, soft_wrap=True)
    environment.prepare(ledger.header["spec"]["address"])
    with quiet_ray(work):
        from orchestrator.search.driver import resume_search

        return resume_search(folder, console, trials, work)
