"""Sample translations for the report: segments spread evenly, every system's translation of each below the other."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.report.html_parts import text
from orchestrator.report.translations.differences import mark_differences
from orchestrator.report.translations.systems import System
from workers.reading.segments import DataSet, Segment
from workers.scoring.metrics import lines_by_pair

SAMPLES_A_PAIR = 12


def evenly_spread(count: int, wanted: int = SAMPLES_A_PAIR) -> list[int]:
    """`wanted` positions out of `count`, the middles of as many equal stretches; all of them when there are fewer."""
    if count <= wanted:
        return list(range(count))
    return [(2 * index + 1) * count // (2 * wanted) for index in range(wanted)]


def samples_html(dataset: DataSet, systems: Sequence[System]) -> str:
    """A pair selector, and for each pair its sample segments with every system's hypothesis."""
    if not systems:
        return "<p>No trial ended well, so there is nothing to show.</p>"
    lines = lines_by_pair(dataset.segments)
    options = "".join(f'<option value="{text(pair)}">{text(pair)}</option>' for pair in lines)
    selector = f'<p class="controls"><label>Language pair <select id="pair">{options}</select></label></p>'
    groups = "".join(
        f'<div class="pair" data-pair="{text(pair)}"><h3>{text(pair)}</h3>'
        + "".join(
            _segment(dataset.segments[at[position]], at[position], systems) for position in evenly_spread(len(at))
        )
        + "</div>"
        for pair, at in lines.items()
    )
    return selector + groups


def _segment(segment: Segment, line: int, systems: Sequence[System]) -> str:
    baseline = next((system.hypotheses[line] for system in systems if system.is_baseline), None)
    rows = [_row("source", "", text(segment.source), segment.source_language, "given")]
    rows += [_row("reference", "", text(one), segment.target_language, "given") for one in segment.references]
    for system in systems:
        hypothesis = system.hypotheses[line]
        shown = text(hypothesis) if system.is_baseline or baseline is None else mark_differences(hypothesis, baseline)
        if not hypothesis.strip():
            shown = '<span class="empty">(empty)</span>'
        rows.append(
            _row(system.label, system.size, shown, segment.target_language, "base" if system.is_baseline else "")
        )
    return f'<article class="sample"><h4>{text(segment.id)}</h4><dl>{"".join(rows)}</dl></article>'


def _row(name: str, size: str, shown: str, language: str, style: str) -> str:
    about = f'<span class="note">{text(size)}</span>' if size else ""
    code = text(language.replace("_", "-"))
    return f'<div class="{style}"><dt>{text(name)}{about}</dt><dd lang="{code}" dir="auto">{shown}</dd></div>'
