"""Two runs' folders, opened again and written as one page; without Ray, and nothing in either folder changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from orchestrator.finish.run_folder import read_data, refuse_changed_data, reopen
from orchestrator.finish.wrap_up import read_split
from orchestrator.report.comparison.comparable import SPLITS, Study, comparability
from orchestrator.report.comparison.frontiers import pair
from orchestrator.report.comparison.page import compare_page
from orchestrator.results.intervals import Intervals, Known
from orchestrator.study.spec import StudySpec
from search_spaces.errors import StudyError
from workers.reading.segments import DataSet
from workers.runtime.atomic_files import write_through_draft


def compare_runs(one: Path, other: Path, to: Path | None = None) -> tuple[Path, list[str]]:
    """Write the page of two runs; returns its path, and what it says first.

    to: where it goes; by default `ONE-and-OTHER.html` in the current folder. Raises StudyError for a folder that is no
    run, for one that is given twice, and where no trial of a study has ended well.
    """
    from plotly.offline import get_plotlyjs

    if one.resolve() == other.resolve():
        raise StudyError(f"{one} and {other} are the same run; give two")
    names = _names(one.resolve(), other.resolve())
    (spec, data, first), (_, others, second) = _opened(one, names[0]), _opened(other, names[1])
    pairing = None
    if (split := comparability(first, second).split) is not None:
        # Drawn with one seed, so that both are resampled alike.
        ours, theirs = (
            Intervals(study.folder, sets[split], spec.seed, study.quality)
            for study, sets in ((first, data), (second, others))
        )
        pairing = pair(first, second, split, ours, theirs)
    html, said = compare_page(first, second, pairing, get_plotlyjs())
    path = to or Path(f"{names[0]}-and-{names[1]}.html".replace("/", "-"))
    try:
        with write_through_draft(path) as draft:
            draft.write_text(html, encoding="utf-8")
    except FileNotFoundError as error:
        raise StudyError(
            f"{path} can't be written: {path.parent} is no folder; make it, or choose another --to"
        ) from error
    return path, said


def _opened(folder: Path, name: str) -> tuple[StudySpec, Mapping[str, DataSet], Study]:
    ledger, spec = reopen(folder)
    data = read_data(spec)
    refuse_changed_data(ledger, data, spec.folder)
    known: Known = {}
    results = {split: read_split(ledger, spec, data, split, known) for split in SPLITS if ledger.on(split)}
    results = {split: found for split, found in results.items() if found.points}
    if not results:
        raise StudyError(f"no trial of {folder} has ended well yet, so there is nothing to compare")
    return spec, data, Study(name, spec.folder, ledger.header, results)


def _names(one: Path, other: Path) -> tuple[str, str]:
    """The shortest ends of the paths that tell them apart."""
    for parts in range(1, max(len(one.parts), len(other.parts)) + 1):
        names = "/".join(one.parts[-parts:]), "/".join(other.parts[-parts:])
        if names[0] != names[1]:
            return names
    return str(one), str(other)
