"""The report's breakdown: where each point is good and where it is not, by domain, length, score bin and document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.number_format import NONE
from orchestrator.report.html_parts import cell, head, table, text
from orchestrator.report.sections.pairs import row_class, tinted_cell
from orchestrator.report.translations.systems import System
from workers.reading.segments import DataSet
from workers.scoring.bins import UNSCORED, parse_bins
from workers.scoring.breakdown import UNNAMED, breakdown

# Human scores, 0 to 100; as `main.py`'s default.
BINS = parse_bins("0-30,30-60,60-100")
GROUPS = (("by_domain", "Domain"), ("by_source_length", "Source length"), ("by_bin", "Human score"))
# Characters of a group that stand on one line.
SHORT_NAME = 16


def breakdown_table(dataset: DataSet, systems: Sequence[System], metric: str) -> str:
    """Groups of segments (rows) by point (columns), each with its difference from the baseline; empty without points.

    A grouping that puts all segments into one group is left out.
    """
    parts = [
        breakdown(metric, dataset.segments, system.hypotheses, BINS, system.values, system.statistics)
        for system in systems
    ]
    if not parts:
        return ""
    usual = next((part for part, system in zip(parts, systems, strict=True) if system.is_baseline), None)
    rows = [
        _row(
            heading,
            name,
            style=row_class(at, len(parts[0][key])),
            values=[part[key].get(name) for part in parts],
            usual=usual and usual[key],
            metric=metric,
            systems=systems,
        )
        for key, heading in GROUPS
        if _tells(parts[0][key])
        for at, name in enumerate(parts[0][key])
    ]
    rows.append(_documents_row(parts))
    names = [("Segments by", ""), ("", "")]
    columns = "".join(
        f'<th scope="col" class="number point">{text(system.label)}<span class="note">{text(system.size)}</span></th>'
        for system in systems
    )
    header = head(names).replace("</tr></thead>", f"{columns}</tr></thead>")
    return table(header, rows, "pairs")


def _tells(groups: Mapping[str, float]) -> bool:
    return len(groups) > 1 and set(groups) - {UNNAMED, UNSCORED} != set()


def _row(
    heading: str,
    name: str,
    style: str,
    values: Sequence[float | None],
    usual: Mapping[str, float] | None,
    metric: str,
    systems: Sequence[System],
) -> str:
    cells = []
    for value, system in zip(values, systems, strict=True):
        if value is None:
            cells.append(cell(NONE, style="number"))
        elif usual is None or system.is_baseline:
            cells.append(cell(f"{value:.2f}", style="number"))
        else:
            cells.append(tinted_cell(f"{value:.2f}", value - usual[name], metric))
    named = "" if "second" in style else text(heading)
    group = cell(text(name), style="one-line" if len(name) <= SHORT_NAME else "")
    return f'<tr class="{style}"><th scope="row">{named}</th>{group}{"".join(cells)}</tr>'


def _documents_row(parts: Sequence[Mapping[str, Any]]) -> str:
    """Each point's worst document, which need not be the same."""
    worst = [part["worst_documents"][0] for part in parts]
    cells = "".join(
        cell(
            f'{row["score"]:.2f}<span class="note">{text(row["doc_id"])} ({text(row["langs"])})</span>', style="number"
        )
        for row in worst
    )
    return f'<tr><th scope="row">Document</th>{cell("its worst", style="one-line")}{cells}</tr>'
