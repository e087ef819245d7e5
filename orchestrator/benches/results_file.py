"""The results file of a bench: what an earlier run wrote there, what this one measured, and the page beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.benches.table import Figures, as_page
from search_spaces.errors import StudyError
from workers.plan.conditions import device_name
from workers.runtime.atomic_files import write_whole

# Between what an earlier run's record says and a later one's.
THEN = "; then "


def merge_results(
    before: Mapping[str, Any] | None, figures: Mapping[str, float], conditions: Mapping[str, Any], command: str
) -> dict[str, Any]:
    """The results file after a run: its figures take the place of an earlier run's, whose others stay.

    Conditions that all runs share stand by themselves, and so does one that a single run has; those in which runs
    differ are joined, the latest run last.
    """
    rounded = {name: round(value, 4) for name, value in figures.items()}
    if before is None:
        return {"figures": rounded, "conditions": dict(conditions), "command": command}
    held = before["conditions"]
    joined = {**conditions, **held}
    for name in held.keys() & conditions.keys():
        if str(held[name]).rpartition(THEN)[2] != str(conditions[name]):
            joined[name] = f"{held[name]}{THEN}{conditions[name]}"
    return {
        "figures": {**before["figures"], **rounded},
        "conditions": joined,
        "command": f"{before['command']}{THEN}{command}",
    }


def earlier(output: Path) -> dict[str, Any] | None:
    if not output.is_file():
        return None
    try:
        record: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
        if {"figures", "conditions", "command"} <= record.keys():
            return record
    except ValueError as error:
        raise StudyError(f"{output} is not a results file ({error}); name another with --json") from error
    raise StudyError(f"{output} is not a results file; name another with --json")


def write_record(output: Path, known: Figures, record: Mapping[str, Any]) -> None:
    """Write the results file, and its page beside it."""
    write_results(output, record)
    write_whole(output.with_suffix(".md"), as_page(record, known))


def write_results(output: Path, record: Mapping[str, Any]) -> None:
    """Write a results file alone."""
    output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(output, json.dumps(record, ensure_ascii=False, indent=2) + "\n")


def this_device() -> str:
    """The first GPU's name, or the CPU's threads."""
    from workers.loading.load import default_device

    return device_name(str(default_device()))
