"""The viewer of single segments: what a candidate made of each beside the baseline's, the worst drops first.

The page's script draws it from plain data (`segments-data`), whose texts it never reads as HTML. The data have a limit
in bytes, so that a page of many candidates and segments still opens at once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from orchestrator.number_format import metric_name
from orchestrator.report.html_parts import json_script, note, text
from orchestrator.report.translations.differences import differences
from orchestrator.report.translations.samples import evenly_spread
from orchestrator.report.translations.systems import System
from workers.reading.segments import DataSet, Segment
from workers.scoring.metrics import lines_by_pair
from workers.scoring.sanity import failed_checks
from workers.scoring.sanity_checks import CHECKS

# Bytes of the data in the page. Its plot's own script takes 4.8 MB.
MOST_BYTES = 3_000_000

ABOUT = (
    "What a candidate made of each segment, beside the baseline's translation. Drop is the candidate's {metric} of the "
    "segment minus the baseline's; a segment's score says less than a mean does. Words that only the candidate has are "
    "marked in its line, words that only the baseline has in the baseline's. Of the data that the search selects on, "
    "never of the held-out test."
)
CUT = (
    "The page holds {shown:,} of {all:,} translations, as many as {limit:.0f} MB take: of each candidate and language "
    "pair, in turns, the worst drops, what fails a check, and segments that are spread evenly. All of them are in the "
    "run's folder, under hypotheses/."
)

Row = dict[str, Any]


def viewer_html(dataset: DataSet, systems: Sequence[System], metric: str, most_bytes: int = MOST_BYTES) -> str:
    """The viewer with its data; empty where no candidate ended well.

    systems: the points that are shown; a baseline among them is what the others are compared with. metric: the study's
    quality. most_bytes: of the data.
    """
    candidates = [system for system in systems if not system.is_baseline]
    if not candidates:
        return ""
    baseline = next((system for system in systems if system.is_baseline), None)
    data, shown = _data(dataset, candidates, baseline=baseline, metric=metric, most_bytes=most_bytes)
    every = len(candidates) * len(dataset.segments)
    about = ABOUT.format(metric=metric_name(metric))
    if shown < every:
        limit = most_bytes / 1_000_000
        about += " " + CUT.format(shown=shown, all=every, limit=limit)
    return note(about) + _controls(data) + json_script("segments-data", data)


def _controls(data: Mapping[str, Any]) -> str:
    """The choosers, which the page's script fills where they depend on the candidate."""
    named = [f"trial {one['number']}: {one['label']} ({one['size']})" for one in data["candidates"]]
    pairs = dict.fromkeys(segment["pair"] for segment in data["segments"])
    orders = {"drop": "worst drops first", "gain": "best gains first", "data": "as in the data"}
    if data["baseline"] is None:
        orders = {"drop": "lowest scores first", "gain": "highest scores first", "data": "as in the data"}
    choosers = [
        _chooser("segments-candidate", "Candidate", {str(at): name for at, name in enumerate(named)}),
        _chooser("segments-pair", "Language pair", {"": "all"} | {pair: pair for pair in pairs}),
        _chooser("segments-check", "Sanity check", {"": "any segment"}),
        _chooser("segments-order", "Order", orders),
    ]
    return (
        f'<div id="segments-viewer"><div class="choosers">{"".join(choosers)}</div>{_pager("top")}'
        '<div id="segments-list"><p class="about">The segments are drawn by the page\'s script.</p></div>'
        f"{_pager('bottom')}</div>"
    )


def _chooser(identifier: str, label: str, options: Mapping[str, str]) -> str:
    listed = "".join(f'<option value="{text(value)}">{text(shown)}</option>' for value, shown in options.items())
    return f'<label><span>{text(label)}</span><select id="{identifier}">{listed}</select></label>'


def _pager(place: str) -> str:
    status = ' role="status" tabindex="-1"' if place == "top" else ""
    return (
        f'<div class="pager"><p class="pages"{status}></p><span class="steps-of-pages">'
        '<button type="button" data-turn="-1">Previous</button><button type="button" data-turn="1">Next</button>'
        "</span></div>"
    )


def _data(
    dataset: DataSet, candidates: Sequence[System], baseline: System | None, metric: str, most_bytes: int
) -> tuple[dict[str, Any], int]:
    """What the script draws, and how many translations of candidates it holds."""
    places: dict[int, int] = {}
    segments: list[Row] = []
    usual: list[Row] = []
    rows: list[list[Row]] = [[] for _ in candidates]
    left = most_bytes
    for which, line in _in_turns(dataset.segments, candidates, baseline):
        new = [] if line in places else [_segment(dataset.segments[line])]
        new += [_own_row(dataset, baseline, line)] if new and baseline else []
        row = _row(dataset, candidates[which], baseline, line)
        left -= sum(len(json.dumps(one, ensure_ascii=False).encode()) for one in (*new, row))
        if left < 0:
            break
        if new:
            places[line] = len(segments)
            segments.append(new[0])
            usual += new[1:]
        rows[which].append(row | {"at": places[line], "line": line})
    data = {
        "metric": metric_name(metric),
        "checks": {check: check.replace("_", " ") for check in CHECKS},
        "segments": segments,
        "baseline": None if baseline is None else {"size": baseline.size, "rows": usual},
        "candidates": [
            {"label": system.label, "size": system.size, "number": system.number, "rows": of_system}
            for system, of_system in zip(candidates, rows, strict=True)
        ],
    }
    return data, sum(map(len, rows))


def _in_turns(
    segments: Sequence[Segment], candidates: Sequence[System], baseline: System | None
) -> Iterator[tuple[int, int]]:
    """Every (candidate, line) once, those to show first at first; candidates and language pairs take turns."""
    queues = [
        [(which, line) for line in _by_interest(lines, system, baseline)]
        for which, system in enumerate(candidates)
        for lines in lines_by_pair(segments).values()
    ]
    for turn in zip_longest(*queues):
        yield from (one for one in turn if one is not None)


def _by_interest(lines: Sequence[int], system: System, baseline: System | None) -> list[int]:
    """The lines of a pair: in turns the worst drop, one that fails a check, and one of those spread evenly."""
    worst = sorted(lines, key=lambda line: (_drop(system, baseline, line) or 0.0, line))
    failing = [line for line in worst if system.failed and system.failed[line]]
    spread = [lines[at] for at in evenly_spread(len(lines))]
    mixed = (line for turn in zip_longest(worst, failing, spread) for line in turn if line is not None)
    return list(dict.fromkeys(mixed))


def _drop(system: System, baseline: System | None, line: int) -> float | None:
    """The segment's score minus the baseline's, or the score itself where there is no baseline."""
    if not system.scores:
        return None
    return system.scores[line] - (baseline.scores[line] if baseline and baseline.scores else 0.0)


def _segment(segment: Segment) -> Row:
    return {
        "id": segment.id,
        "pair": segment.langs,
        "from": segment.source_language.replace("_", "-"),
        "to": segment.target_language.replace("_", "-"),
        "source": segment.source,
        "references": [reference for reference in segment.references if reference],
    }


def _own_row(dataset: DataSet, system: System, line: int) -> Row:
    """A translation by itself."""
    return {"text": system.hypotheses[line], **_figures(dataset, system, line)}


def _row(dataset: DataSet, system: System, baseline: System | None, line: int) -> Row:
    """A candidate's translation: as stretches beside the baseline's, or nothing where it is the same."""
    ours = system.hypotheses[line]
    if baseline is None:
        return _own_row(dataset, system, line)
    theirs = baseline.hypotheses[line]
    figures = _figures(dataset, system, line)
    if ours == theirs:
        return figures
    return {
        "parts": [here if same else [here, there] for here, there, same in differences(ours, theirs)],
        **figures,
    }


def _figures(dataset: DataSet, system: System, line: int) -> Row:
    failed = system.failed[line] if system.failed else None
    if failed is None:
        # An older run's lines do not say.
        cut = bool(system.truncated and system.truncated[line])
        failed = failed_checks(dataset.segments[line], system.hypotheses[line], cut)
    score = system.scores[line] if system.scores else math.nan
    return {"score": round(score, 2) if math.isfinite(score) else None, **({"failed": failed} if failed else {})}
