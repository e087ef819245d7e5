"""The report's page: the sections in their order, with style, script and plotly inside, so that it opens offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.report_about import conditions_block, heading_facts, interval_note
from orchestrator.report_html import json_script, section, text
from orchestrator.report_labels import Unit
from orchestrator.report_plot import plot_data
from orchestrator.report_samples import System, samples_html
from orchestrator.report_tables import (
    failures_table,
    held_out_table,
    pairs_table,
    points_table,
    shown_points,
    signatures_table,
)
from orchestrator.results import Results
from workers.reading.segments import DataSet

HERE = Path(__file__).parent

# Nothing may be fetched: the page is one file, whatever a translation holds.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)

HELD_OUT_SENTENCE = (
    "The dev scores chose these points, which flatters them a little; the held-out test had no part in the choice, "
    "so its figure is the honest one."
)
PLOT_NOTE = (
    "Quality is the mean chrF over language pairs, size the bytes on disk of every file needed to run. The bar on a "
    "point is its 95 % paired interval against the baseline, drawn from the baseline's chrF; the line joins the "
    "frontier: the best chrF to be had at each size. Hover over a point, or click it, to light up its row; click a row "
    "to ring its point."
)
PAIRS_NOTE = "The baseline and each point of the frontier; beside each score, its difference from the baseline."
SAMPLES_NOTE = (
    "Segments spread evenly over the dev set, not picked. Words that differ from the baseline's are marked; a thin bar "
    "stands where words of the baseline's are missing. Hover over either to see what the baseline has there."
)


@dataclass(frozen=True, slots=True)
class Content:
    """All that a page is made of. systems: the dev hypotheses of the points whose samples are shown."""

    title: str
    dev: Results
    dev_data: DataSet
    test: Results | None
    test_data: DataSet | None
    header: Mapping[str, Any]
    unit: Unit
    systems: Sequence[System]


def page(content: Content, plotly: str) -> str:
    """The whole page. plotly: plotly.js, embedded as it is."""
    splits = [content.dev, *([content.test] if content.test else [])]
    views = {"dev": content.dev} | ({"test": content.test} if content.test else {})
    return "".join(
        [
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{text(content.title)}</title><style>{_read('report_page.css')}</style></head><body><main>",
            *_sections(content, splits),
            "</main>",
            json_script("report-data", plot_data(views, content.unit)),
            f"<script>{plotly}</script>" if any(results.points for results in splits) else "",
            f"<script>{_read('report_page.js')}</script></body></html>\n",
        ]
    )


def _sections(content: Content, splits: Sequence[Results]) -> list[str]:
    data = [content.dev_data, *([content.test_data] if content.test_data else [])]
    facts = heading_facts(content.dev, content.dev_data, content.test, content.test_data, content.header, content.unit)
    sections = [
        f"<header><h1>{text(content.title)}</h1>{facts}{conditions_block(splits, data, content.header)}</header>",
        _plot_section(content),
    ]
    if content.dev.points:
        sections.append(section("points", "All points", points_table(content.dev, content.unit)))
    if content.test is not None:
        sections.append(_held_out_section(content.dev, content.test, content.unit))
    sections += [
        section("failures", "Failures", failures_table(content.dev)),
        _pairs_section(content),
        section("samples", "Sample translations", _note(SAMPLES_NOTE), samples_html(content.dev_data, content.systems)),
        section("signatures", "How it was scored", interval_note(data), signatures_table(splits)),
    ]
    return sections


def _plot_section(content: Content) -> str:
    if not content.dev.points:
        return section(
            "plot-section", "Quality against size", "<p>No trial ended well, so there is nothing to plot.</p>"
        )
    toggle = ""
    if content.test is not None and content.test.points:
        toggle = (
            '<div class="toggle" role="group" aria-label="Scores shown">'
            '<button type="button" data-view="dev" aria-pressed="true">dev</button>'
            '<button type="button" data-view="test" aria-pressed="false">held-out test</button></div>'
        )
    return section("plot-section", "Quality against size", toggle, '<div id="plot"></div>', _note(PLOT_NOTE))


def _held_out_section(dev: Results, test: Results, unit: Unit) -> str:
    parts = [_note(HELD_OUT_SENTENCE), held_out_table(dev, test, unit)]
    if test.failures:
        parts += ["<h3>Failures on the held-out test</h3>", failures_table(test)]
    return section("held-out", "Held-out test", *parts)


def _pairs_section(content: Content) -> str:
    points = shown_points(content.dev)
    if not points:
        return ""
    parts = [_note(PAIRS_NOTE), pairs_table(content.dev, points, content.unit)]
    if content.test is not None and (chosen := _chosen_on_test(points, content.test)):
        parts += ["<h3>On the held-out test</h3>", pairs_table(content.test, chosen, content.unit)]
    return section("pairs", "By language pair", *parts)


def _chosen_on_test(points: Sequence[Any], test: Results) -> list[Any]:
    measured = {point.record.candidate.digest: point for point in test.points}
    digests = (point.record.candidate.digest for point in points)
    return [measured[digest] for digest in digests if digest in measured]


def _note(sentence: str) -> str:
    return f'<p class="about">{text(sentence)}</p>'


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
