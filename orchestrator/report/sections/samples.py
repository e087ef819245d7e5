"""Sample translations for the report: which segments are shown, and what differs from the baseline's words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

from orchestrator.ledger.records import read_hypotheses
from orchestrator.number_format import Unit
from orchestrator.report.html_parts import text
from orchestrator.results.intervals import segment_scores_of
from orchestrator.results.points import Point
from orchestrator.results.step_labels import short_label
from search_spaces.errors import StudyError
from workers.reading.segments import DataSet, Segment
from workers.scoring.metrics import NEURAL_METRICS, lines_by_pair

SAMPLES_A_PAIR = 12

# Thai to Khmer, kana and CJK are written without spaces: there each character, with its marks, counts as a word.
UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
MARKS = r"\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u102b-\u103e\u17b4-\u17d3\u3099\u309a"
SIGNS = r"!-/:-@\[-`{-~\u00a1-\u00bf\u2010-\u206f\u3000-\u303f\uff00-\uff0f\uff1a-\uff20"
TOKEN = re.compile(rf"\s+|[{UNSPACED}][{MARKS}]*|[{SIGNS}]|[^\s{UNSPACED}{SIGNS}]+")


@dataclass(frozen=True, slots=True)
class System:
    """One point's hypotheses."""

    label: str
    """The point's steps, or that it is the baseline."""
    size: str
    """The point's size, as it is shown."""
    is_baseline: bool
    """Whether it is the baseline."""
    hypotheses: tuple[str, ...]
    """Its hypotheses, in the data set's order."""
    values: tuple[float, ...] | None = None
    """Score of each hypothesis, where the quality is their mean; else None."""


def read_systems(folder: Path, points: Sequence[Point], dataset: DataSet, unit: Unit) -> list[System]:
    """The stored hypotheses of each point; raises StudyError where they are not one a segment."""
    systems = []
    for point in points:
        hypotheses = read_hypotheses(folder, point.record)
        if len(hypotheses) != len(dataset.segments):
            raise StudyError(
                f"{folder / str(point.record.hypotheses)} holds {len(hypotheses)} hypotheses for the "
                f"{len(dataset.segments)} segments of {dataset.name}; report with the data the study was run on"
            )
        label = short_label(point.record.candidate)
        values = segment_scores_of(folder, point.record, point.metric) if point.metric in NEURAL_METRICS else None
        systems.append(
            System(
                label,
                unit.text(point.bytes),
                not point.steps,
                tuple(hypotheses),
                None if values is None else tuple(values),
            )
        )
    return systems


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


def mark_differences(hypothesis: str, baseline: str) -> str:
    """The hypothesis as HTML: words that the baseline has not are marked, and so is each place where it has more."""
    ours, theirs = TOKEN.findall(hypothesis), TOKEN.findall(baseline)
    parts: list[str] = []
    for change, low, high, start, end in SequenceMatcher(None, theirs, ours, autojunk=False).get_opcodes():
        here = text("".join(ours[start:end]))
        if change == "equal":
            parts.append(here)
        elif here.strip():
            parts.append(f'<mark title="baseline: {text("".join(theirs[low:high]).strip())}">{here}</mark>')
        else:
            parts.append(
                f'{here}<mark class="gone" title="baseline: {text("".join(theirs[low:high]).strip())}"></mark>'
            )
    return "".join(parts)


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
