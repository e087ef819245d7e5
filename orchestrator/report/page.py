"""The report's page: the sections in their order, with style, script and plotly inside, so that it opens offline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.ledger.records import TrialRecord
from orchestrator.number_format import Unit, metric_name
from orchestrator.racing.judging import ALPHA, MARGIN
from orchestrator.report.control import control_section
from orchestrator.report.html_parts import document, json_script, note, section, text
from orchestrator.report.plot import plot_data
from orchestrator.report.published.points_file import PublishedPoint
from orchestrator.report.published.section import published_section
from orchestrator.report.sections.answers import answers_html
from orchestrator.report.sections.breakdown import breakdown_table
from orchestrator.report.sections.bytes_and_time import bytes_parts, time_parts
from orchestrator.report.sections.cells import KEPT_OFF_MARK, TIE_MARK
from orchestrator.report.sections.conditions import conditions_parts, interval_note, signatures_table, study_facts
from orchestrator.report.sections.expected import expected_section
from orchestrator.report.sections.held_out import held_out_table
from orchestrator.report.sections.pairs import pairs_table
from orchestrator.report.sections.points import points_table, shown_points
from orchestrator.report.sections.sanity import sanity_note, sanity_table
from orchestrator.report.sections.speed import speed_parts
from orchestrator.report.sections.unfinished import counts, dropped_by_reason, failures_by_reason
from orchestrator.report.translations.samples import samples_html
from orchestrator.report.translations.segments import viewer_html
from orchestrator.report.translations.systems import System
from orchestrator.results.answers import judged_by
from orchestrator.results.baseline import baseline_faults
from orchestrator.results.control import ControlArms
from orchestrator.results.cost import Cost, cost_of
from orchestrator.results.labels import third_note
from orchestrator.results.points import Results
from orchestrator.results.statement import flattered_said, statement
from orchestrator.statistics.telling_apart import ALPHA as TOGETHER
from search_spaces.sizes.byte_parts import ByteParts
from workers.reading.segments import DataSet

HERE = Path(__file__).parent

# How a target begins whose share is of the pair that keeps least.
WORST_PAIR = "worst_pair"

HELD_OUT_SENTENCE = (
    "The dev scores chose these points, which flatters them a little; the held-out test had no part in the choice, "
    "so its figure is the honest one. It also decides which of them the frontier keeps. What dev did not tell apart "
    "from these was scored too, the smallest first, so that luck on dev did not decide."
)
PLOT_NOTE = (
    "Quality is the mean {metric} over language pairs, size the bytes on disk of every file needed to run. The bar on "
    "a point is its 95 % paired interval against the baseline, drawn from the baseline's {metric}; the line joins the "
    "frontier, each point of which is shown to be better than all smaller ones. Hover over a point, or click it, to "
    "light up its row; click a row to ring its point."
)
TIE_NOTE = (
    "A hollow point is not told apart from the point of the frontier that its row names, which is no larger{where}: "
    "take the smaller one, or choose by what else differs. A point is beaten only by one of no more bytes that is "
    "shown to be better, by a paired bootstrap that keeps the chance of any false statement of the plot at {alpha:.0%}."
)
DROPPED_NOTE = (
    f"A race ends a trial as soon as the evidence says, at an error of {ALPHA:.0%} over all its looks, that it is "
    f"worse than a point of no more bytes, within {MARGIN} points of one, or below the study's floor, a share of the "
    "baseline's quality. Such a trial was not translated in full, so it has no score to compare and can't be on the "
    "frontier. Projected is that point's score, or the floor, plus the difference seen; differences are of mean "
    "segment scores, in an interval that holds at every look."
)
POINTS_NOTE = (
    "The baseline, then the frontier from its largest point, then what is not told apart from it ({tie}), what is "
    "beaten, and what is kept off ({off}). A click on a candidate opens its steps, its standing and its notes."
)
PAIRS_NOTE = (
    "The baseline and each point of the frontier; beside each score, its difference from the baseline. Each point's "
    "worst pair is in bold."
)
BREAKDOWN_NOTE = (
    "Each group's {metric} is the mean over the language pairs in it, beside it the difference from the baseline. A "
    "small group's score is a matter of chance."
)
SAMPLES_NOTE = (
    "Segments spread evenly over the dev set, not picked. Words that differ from the baseline's are marked; a thin bar "
    "stands where words of the baseline's are missing. Hover over either to see what the baseline has there."
)


@dataclass(frozen=True, slots=True)
class Content:
    """All that a page is made of."""

    title: str
    """The page's title."""
    dev: Results
    """Results on the data that the search selects on."""
    dev_data: DataSet
    """The data that the search selects on."""
    test: Results | None
    """Results on the held-out data, or None."""
    test_data: DataSet | None
    """The held-out data, or None."""
    header: Mapping[str, Any]
    """The header of the study's ledger."""
    unit: Unit
    """The unit of sizes."""
    systems: Sequence[System]
    """The dev hypotheses of the points whose samples are shown."""
    probes: Sequence[TrialRecord] = ()
    """The probes of the profile that guided the search; none where it had none."""
    cost: Cost = field(default_factory=lambda: cost_of(()))
    """What the study took."""
    kept: Mapping[int, Path] = field(default_factory=dict)
    """Trial number -> the folder of its kept model."""
    parts: Mapping[int, ByteParts] = field(default_factory=dict)
    """Trial number -> where its bytes are."""
    controls: ControlArms = field(default_factory=ControlArms)
    """What the training alone brings."""
    published: Sequence[PublishedPoint] = ()
    """Published points of other people's models."""


def page(content: Content, plotly: str) -> str:
    """The whole page. plotly: plotly.js, embedded as it is."""
    splits = [content.dev, *([content.test] if content.test else [])]
    views = {"dev": content.dev} | ({"test": content.test} if content.test else {})
    plotted = [plotly] if any(results.points for results in splits) else []
    return document(
        content.title,
        _read("page.css"),
        _sections(content, splits),
        [json_script("report-data", plot_data(views, content.unit, content.published))],
        [*plotted, _read("tables.js"), _read("page.js"), _read("segments.js")],
    )


def _sections(content: Content, splits: Sequence[Results]) -> list[str]:
    dev, unit = content.dev, content.unit
    data = [content.dev_data, *([content.test_data] if content.test_data else [])]
    target = str(content.header.get("spec", {}).get("target") or "")
    points = shown_points(dev)
    sections = [
        f"<header><h1>{text(content.title)}</h1>{baseline_banner(splits)}{_answers(content)}</header>",
        _plot_section(content),
    ]
    if dev.points:
        said = note(POINTS_NOTE.format(tie=TIE_MARK, off=KEPT_OFF_MARK))
        sections.append(section("points", "All points", said, points_table(dev, unit)))
    sections.append(published_section(content.published, dev, unit))
    if content.test is not None:
        sections.append(_held_out_section(dev, content.test, unit))
    sections.append(control_section(content.controls, dev.metric, unit))
    sections += [
        _unfinished_section(dev, unit),
        _where("bytes", "Where the bytes are", bytes_parts(points, content.parts, unit)),
        _where("time", "Where the time went", time_parts(content.cost, points)),
        _where("speed", "Speed and memory", speed_parts(dev, unit)),
        expected_section(dev, content.probes, unit, target.startswith(WORST_PAIR)),
        _sanity_section(content),
        _pairs_section(content),
        _breakdown_section(content),
        _where("segments", "Segment by segment", viewer_html(content.dev_data, content.systems, dev.metric)),
        section("samples", "Sample translations", note(SAMPLES_NOTE), samples_html(content.dev_data, content.systems)),
        section("signatures", "How it was scored", interval_note(data, dev.metric), signatures_table(splits)),
        section("conditions", "Conditions", _facts(content), conditions_parts(splits, data, content.header)),
    ]
    return sections


def _answers(content: Content) -> str:
    """What is recommended, and the answers, before all else."""
    of_test = judged_by(content.dev, content.test) is content.test
    return answers_html(
        content.dev,
        content.test,
        data=content.test_data if of_test and content.test_data else content.dev_data,
        said=statement(content.dev, content.test, content.header.get("spec", {}).get("margin")),
        kept=content.kept,
        cost=content.cost,
        unit=content.unit,
    )


def _facts(content: Content) -> str:
    return study_facts(
        content.dev,
        content.dev_data,
        test=content.test,
        test_data=content.test_data,
        header=content.header,
        unit=content.unit,
    )


def _where(identifier: str, heading: str, parts: str) -> str:
    """A section; empty where it has nothing to show."""
    return section(identifier, heading, parts) if parts else ""


def _unfinished_section(dev: Results, unit: Unit) -> str:
    """Trials without a full score, apart from those that have one."""
    parts = [f"<p>{text(said)}</p>" if (said := counts(dev)) else ""]
    if dev.dropped:
        parts += [note(DROPPED_NOTE), dropped_by_reason(dev, unit)]
    parts += [*(["<h3>Failed</h3>"] if dev.failures and dev.dropped else []), failures_by_reason(dev)]
    return section("unfinished", "Failed and dropped early", *parts)


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
    said = PLOT_NOTE.format(metric=metric_name(content.dev.metric)) + third_note(content.dev.third)
    notes = [note(said), *([note(_tie_note(content))] if content.dev.ties else [])]
    return section("plot-section", "Quality against size", toggle, '<div id="plot"></div><ul id="legend"></ul>', *notes)


def _tie_note(content: Content) -> str:
    where = " (on the held-out test)" if content.test and content.test.points else ""
    return TIE_NOTE.format(where=where, alpha=TOGETHER)


def _held_out_section(dev: Results, test: Results, unit: Unit) -> str:
    flattered = flattered_said(dev)
    parts = [
        note(HELD_OUT_SENTENCE),
        *([] if flattered is None else [note(flattered)]),
        held_out_table(dev, test, unit),
    ]
    if test.failures:
        parts += ["<h3>Failures on the held-out test</h3>", failures_by_reason(test)]
    return section("held-out", "Held-out test", *parts)


def _sanity_section(content: Content) -> str:
    shares = sanity_table(content.dev, content.unit)
    if not shares:
        return ""
    parts = [note(sanity_note(content.dev, content.dev_data)), shares]
    if content.test is not None and (there := sanity_table(content.test, content.unit)):
        parts += ["<h3>On the held-out test</h3>", there]
    return section("sanity", "Sanity", *parts)


def _pairs_section(content: Content) -> str:
    points = shown_points(content.dev)
    if not points:
        return ""
    parts = [note(PAIRS_NOTE), pairs_table(content.dev, points, content.unit)]
    if content.test is not None and (chosen := _chosen_on_test(points, content.test)):
        parts += ["<h3>On the held-out test</h3>", pairs_table(content.test, chosen, content.unit)]
    return section("pairs", "By language pair", *parts)


def _breakdown_section(content: Content) -> str:
    parts = breakdown_table(content.dev_data, content.systems, content.dev.metric)
    said = note(BREAKDOWN_NOTE.format(metric=metric_name(content.dev.metric)))
    return section("breakdown", "By kind of segment", said, parts) if parts else ""


def _chosen_on_test(points: Sequence[Any], test: Results) -> list[Any]:
    measured = {point.record.candidate.digest: point for point in test.points}
    digests = (point.record.candidate.digest for point in points)
    return [measured[digest] for digest in digests if digest in measured]


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def baseline_banner(splits: Iterable[Results | None]) -> str:
    """The same as HTML; empty for a sound baseline."""
    return "".join(f'<p class="about warn"><strong>{text(fault)}</strong></p>' for fault in baseline_faults(splits))
