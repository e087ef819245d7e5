"""`mtpareto table`: a run's points as a table for a paper or a pull request, on the standard output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.finish.run_folder import read_data, refuse_changed_data, reopen
from orchestrator.finish.title import title_of
from orchestrator.finish.wrap_up import read_controls, read_results
from orchestrator.results.tables.paper_table import FORMATS, FRONTIER, paper_table
from search_spaces.errors import StudyError


def table_of_run(
    folder: Path, form: str, columns: Sequence[str] = (), pick: str = FRONTIER, of: str | None = None
) -> str:
    """The table's text. form: one of `FORMATS`. columns, pick, of: as in `paper_table`. Nothing is written.

    Raises StudyError for a folder without a run, and for what the run does not have.
    """
    ledger, spec = reopen(folder)
    data = read_data(spec)
    refuse_changed_data(ledger, data, spec.folder)
    dev, test = read_results(ledger, spec, data)
    if not dev.points:
        raise StudyError(f"no trial of {folder} was measured in full yet, so there is no table")
    controls = read_controls(ledger, spec, data, dev, test)
    return FORMATS[form](paper_table(title_of(spec), dev, test, pick, columns, of, controls))
