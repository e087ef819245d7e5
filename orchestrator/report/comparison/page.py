"""The page of two studies: what can be said of them together, one picture, their tables, and what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.number_format import NONE, Unit, interval_text, metric_name, ratio_text, signed
from orchestrator.report.comparison.comparable import (
    SPLITS,
    Comparability,
    Study,
    comparability,
    differing_conditions,
)
from orchestrator.report.comparison.frontiers import AtSize, Pairing, agreement
from orchestrator.report.html_parts import cell, document, head, json_script, note, number, section, table, text
from orchestrator.report.sections.cells import mark_cell, shown_interval
from orchestrator.report.sections.conditions import trials_text
from orchestrator.report.view import interval_bounds, is_logarithmic
from orchestrator.results.labels import unit_for
from orchestrator.results.points import Point, Results
from orchestrator.results.step_labels import short_label

HERE = Path(__file__).parent

PLOT_NOTE = (
    "Both frontiers, on {where}: the line of each joins its frontier, hollow points are not told apart from a smaller "
    "one, stars are the baselines. The bar on a point is its own study's 95 % interval against its baseline."
)
SHARES_NOTE = (
    "The studies can't be compared in points, so each is drawn by what it keeps of its own baseline and how many times "
    "smaller it is. Do not read a difference between the two lines as a difference in quality."
)
SIZES_NOTE = (
    "At each size where either study has a frontier point: what each frontier offers of no more bytes, within 1 %, and "
    "their paired difference on the same segments, in intervals that hold together at 95 %. Bold where 0 is left out. "
    "One segment more than was seen may have failed, so even outputs that are all alike have an interval."
)
BOTH_NOTE = (
    "The same candidates in both studies, so what differs is the seed or another condition. Intervals as above, for "
    "the candidates of this table together."
)
TABLE_NOTE = (
    "Of each study its baseline, its frontier and what is not told apart from it, by size; intervals are against its "
    "own baseline."
)


def compare_page(one: Study, other: Study, pairing: Pairing | None, plotly: str) -> tuple[str, list[str]]:
    """The page, and what it says first. pairing: None where the studies share no segments."""
    found = comparability(one, other)
    splits = {study.name: found.split or _last_split(study) for study in (one, other)}
    shown = {study.name: study.results[splits[study.name]] for study in (one, other)}
    unit = unit_for([point for results in shown.values() for point in results.points])
    said = verdict(one, other, found, pairing, unit)
    names = (one.name, other.name)
    title = f"{names[0]} and {names[1]}"
    parts = [
        f"<header><h1>{text(title)}</h1>{_said(said, found)}</header>",
        _plot_section(shown, found),
        section("both", "Points of both", note(TABLE_NOTE), _points_table(shown, splits, unit)),
    ]
    if pairing is not None:
        parts.append(_paired("sizes", "Size by size", SIZES_NOTE, pairing.sizes, names, pairing.metric, unit))
        parts.append(_paired("same", "Candidates of both", BOTH_NOTE, pairing.both_tried, names, pairing.metric, unit))
    parts += [_studies(one, other), _differing(one, other)]
    data = _plot_data(shown, unit, shares=not found.comparable)
    style, tables = _read(HERE.parent / "page.css"), _read(HERE.parent / "tables.js")
    scripts = [plotly, tables, _read(HERE / "comparison.js")]
    return document(title, style, parts, [json_script("comparison-data", data)], scripts), said


def verdict(one: Study, other: Study, found: Comparability, pairing: Pairing | None, unit: Unit) -> list[str]:
    """Whether they can be compared, and whether the frontiers agree, a sentence each."""
    said = []
    if found.against:
        said.append(f"The studies are not comparable: {'; '.join(found.against)}.")
    elif pairing is not None:
        said += agreement(pairing, (one.name, other.name), unit)
    return [*said, *found.cautions]


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _last_split(study: Study) -> str:
    """The held-out test where it has one."""
    return next(split for split in SPLITS if split in study.results)


def _said(said: Sequence[str], found: Comparability) -> str:
    first, *others = said or ["There is nothing to compare."]
    style = "statement" if found.comparable else "statement warn"
    return f'<p class="{style}">{text(first)}</p>' + "".join(note(line) for line in others)


def _plot_section(shown: Mapping[str, Results], found: Comparability) -> str:
    if len({results.metric for results in shown.values()}) > 1:
        why = "The frontiers are of other metrics, so no picture can hold both."
        return section("plot-section", "Quality against size", f"<p>{text(why)}</p>")
    said = SHARES_NOTE if found.split is None else PLOT_NOTE.format(where=SPLITS[found.split])
    return section("plot-section", "Quality against size", '<div id="plot"></div><ul id="legend"></ul>', note(said))


def _chosen(results: Results) -> list[Point]:
    """The baseline, the frontier and its ties."""
    return [point for point in results.points if point.on_frontier or point.tie is not None or not point.steps]


def _points_table(shown: Mapping[str, Results], splits: Mapping[str, str], unit: Unit) -> str:
    metrics = dict.fromkeys(metric_name(results.metric) for results in shown.values())
    names = [
        ("Study", ""),
        ("Trial", "number"),
        ("Frontier", "centre"),
        ("Candidate", ""),
        (unit.name, "number"),
        ("Ratio", "number"),
        (" / ".join(metrics), "number"),
        ("Kept", "number"),
        ("95 % interval", "number"),
        ("Measured on", ""),
    ]
    points = [(name, point, results) for name, results in shown.items() for point in _chosen(results)]
    points.sort(key=lambda one: (-one[1].bytes, one[0]))
    rows = [_point_row(name, point, results, splits[name], unit) for name, point, results in points]
    return table(head(names, sortable=True), rows, "sortable points")


def _point_row(name: str, point: Point, results: Results, split: str, unit: Unit) -> str:
    kept = point.quality / results.baseline.quality if results.baseline and results.baseline.quality > 0 else None
    cells = [
        cell(text(name)),
        number(str(point.record.number), point.record.number),
        mark_cell(point),
        cell(text(short_label(point.record.candidate)), style="full-steps"),
        number(f"{unit.of(point.bytes):,.2f}", point.bytes),
        number(ratio_text(point.ratio), point.ratio),
        number(f"{point.quality:.2f}", point.quality),
        number(NONE if kept is None else f"{kept:.1%}", kept),
        cell(text(shown_interval(point)), style="number"),
        cell(text(split)),
    ]
    return f'<tr class="{"frontier" if point.on_frontier else ""}">{"".join(cells)}</tr>'


def _paired(
    identifier: str, heading: str, about: str, found: Sequence[AtSize], names: tuple[str, str], metric: str, unit: Unit
) -> str:
    if not found:
        return ""
    columns = [
        (unit.name, "number"),
        *(
            (f"{name}: {what}", style)
            for name in names
            for what, style in (("candidate", ""), (metric_name(metric), "number"))
        ),
        (f"{names[1]} minus {names[0]}", "number"),
        ("interval", "number"),
    ]
    rows = [_paired_row(at, unit) for at in found]
    return section(identifier, heading, note(about), table(head(columns, sortable=True), rows, "sortable"))


def _paired_row(at: AtSize, unit: Unit) -> str:
    measured = at.other.quality - at.one.quality
    style = "number main" if at.difference is not None and at.difference.shown else "number faint"
    shown = NONE if at.difference is None else f"{signed(at.difference.low)} to {signed(at.difference.high)}"
    cells = [number(f"{unit.of(at.bytes):,.2f}", at.bytes)]
    for point in (at.one, at.other):
        label = f"{short_label(point.record.candidate)} ({unit.text(point.bytes)})"
        cells += [cell(text(label), style="full-steps"), number(f"{point.quality:.2f}", point.quality)]
    cells += [number(signed(measured), measured), cell(text(shown), style=style)]
    return f"<tr>{''.join(cells)}</tr>"


def _studies(one: Study, other: Study) -> str:
    """What each is, side by side."""
    columns = [_facts(study) for study in (one, other)]
    rows = [
        f'<tr><th scope="row">{text(key)}</th>{cell(text(mine))}{cell(text(theirs))}</tr>'
        for (key, mine), (_, theirs) in zip(*columns, strict=True)
    ]
    return section("studies", "The studies", table(head([("", ""), (one.name, ""), (other.name, "")]), rows))


def _facts(study: Study) -> list[tuple[str, str]]:
    spec, base = study.header["spec"], study.header["base"]
    measured = [f"{SPLITS[split]}: {trials_text(found)}" for split, found in study.results.items()]
    return [
        ("Folder", str(study.folder)),
        ("Model", f"{base['name']} ({base['revision']})"),
        ("Search space", str(spec.get("space", NONE))),
        ("Seed", str(spec.get("seed", NONE))),
        ("Quality", metric_name(study.quality)),
        ("Trials", "; ".join(measured)),
    ]


def _differing(one: Study, other: Study) -> str:
    rows = [
        f"<tr>{cell(text(key))}{cell(text(mine), style='message')}{cell(text(theirs), style='message')}</tr>"
        for key, mine, theirs in differing_conditions(one, other)
    ]
    if not rows:
        made = "<p>Nothing that was asked or measured under.</p>"
    else:
        made = table(head([("Key", ""), (one.name, ""), (other.name, "")]), rows)
    return section("differs", "What differs", made)


def _plot_data(shown: Mapping[str, Results], unit: Unit, shares: bool) -> dict[str, Any]:
    metric = metric_name(next(iter(shown.values())).metric)
    if len({results.metric for results in shown.values()}) > 1:
        return {"studies": []}
    studies: list[dict[str, Any]] = [
        {"name": name, "points": _drawn_points(results, unit, shares)}
        for name, results in shown.items()
        if not shares or results.baseline is not None
    ]
    return {
        "logarithmic": is_logarithmic(point["x"] for study in studies for point in study["points"]),
        "x": "times smaller than its own baseline" if shares else f"size on disk, {unit.name}",
        "y": f"{metric} in % of its own baseline's" if shares else f"quality, mean {metric} over language pairs",
        # The line goes level to the next larger point, which is right of it by size and left of it by ratio.
        "steps": "vh" if shares else "hv",
        "metric": metric,
        "studies": studies,
    }


def _drawn_points(results: Results, unit: Unit, shares: bool) -> list[dict[str, Any]]:
    joined = {point.record.key for point in results.line}
    return [{**_drawn(point, results, unit, shares), "line": point.record.key in joined} for point in _chosen(results)]


def _drawn(point: Point, results: Results, unit: Unit, shares: bool) -> dict[str, Any]:
    bounds = interval_bounds(point, results.baseline)
    scale = 100 / results.baseline.quality if shares and results.baseline and results.baseline.quality > 0 else 1.0
    return {
        "x": point.ratio if shares else unit.of(point.bytes),
        "y": point.quality * scale,
        "bounds": None if bounds is None else [bound * scale for bound in bounds],
        "label": short_label(point.record.candidate),
        "trial": point.record.number,
        "size": unit.text(point.bytes),
        "interval": interval_text(point.interval),
        "tied": point.tie is not None,
        "baseline": not point.steps,
    }
