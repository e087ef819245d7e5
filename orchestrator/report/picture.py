"""`frontier.png`: the report's plot as a picture for a README, with labels that keep out of each other's way."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from orchestrator.ledger.records import Key
from orchestrator.number_format import TIMES, Unit, metric_name
from orchestrator.report.picture_labels import place_labels
from orchestrator.report.published.placing import NAME as PUBLISHED
from orchestrator.report.published.placing import Placed, marked_name, placed
from orchestrator.report.published.points_file import PublishedPoint
from orchestrator.report.view import OTHERS, interval_bounds, is_logarithmic, quality_range, stands
from orchestrator.results.labels import kinds_of, spell_cost, unit_for
from orchestrator.results.points import Point, Results
from orchestrator.results.step_labels import short_label
from workers.runtime.atomic_files import write_through_draft

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE_INCHES = (9.0, 6.4)
LABEL_WIDTH = 36
# A chain that takes more lines is named by its trial.
LABEL_LINES = 2
DOTS_PER_INCH = 200
# Okabe and Ito's colours, told apart by colour-blind readers too: https://jfly.uni-koeln.de/color/
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195")
SHAPES = ("o", "s", "^", "D", "v", "P", "X")
INK, FAINT, LINE = "#1c2330", "#6b7280", "#9aa3af"
OFF_FRONTIER = 0.32
TIE_LABEL = "hollow: not told apart from a smaller point"
KEPT_OFF_LABEL = "kept off: fails a check or a limit, or is below the floor"
FAR_OFF_LABEL = "beyond the axis"
REFERENCE_LABEL = "in a box: a reference point of the study"
MOST_LABELS = 9
RATIOS = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0)


def write_picture(path: Path, title: str, results: Results, published: Sequence[PublishedPoint] = ()) -> Path:
    """Draw quality against size, every point with its 95 % interval; returns the path of a PNG 1800 pixels wide.

    published: other people's points, marked beside the study's own.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    unit = unit_for([*results.points, *results.dropped])
    _draw_frame(axes, title, results, unit)
    others = placed(published, results)
    _draw_points(figure, axes, results, unit, others)
    figure.draw_without_rendering()
    joined = {point.record.key for point in results.line}
    frontier = [(unit.of(point.bytes), point.quality, _name(point, results, joined)) for point in _labelled(results)]
    low, high = axes.get_ylim()
    places = [(point.bytes, point.quality) for point in results.points]
    places += [(trial.bytes, trial.race.projected) for trial in results.dropped]
    drawn = [(unit.of(size), min(max(quality, low), high)) for size, quality in places]
    shown = quality_range(results)
    names = [
        (one.bytes / unit.bytes, min(max(one.quality, low), high), fill(marked_name(one, shown), LABEL_WIDTH))
        for one in others
    ]
    drawn += [(size, quality) for size, quality, _ in names]
    bars = [
        (unit.of(point.bytes), *bounds)
        for point in results.points
        if (bounds := interval_bounds(point, results.baseline))
    ]
    rules = [results.baseline.quality] if results.baseline else []
    place_labels(axes, frontier, points=drawn, bars=bars, rules=rules, colour=INK, names=names[:MOST_LABELS])
    with write_through_draft(path) as draft:
        figure.savefig(draft, format="png", metadata={"Software": None})
    return path


def _name(point: Point, results: Results, joined: Collection[Key]) -> str:
    """What a picture calls the point: its chain, or where that is long its trial, ratio and share of the quality; and
    for what it stands off the line. joined: the points that the line joins."""
    baseline, chain = results.baseline, fill(short_label(point.record.candidate), LABEL_WIDTH)
    stands_for = "" if not point.on_frontier or point.record.key in joined else f"\n{spell_cost(point, results.third)}"
    if chain.count("\n") < LABEL_LINES or baseline is None or not baseline.quality:
        return chain + stands_for
    share = 100 * point.quality / baseline.quality
    return f"trial {point.record.number}: {point.ratio:.2f}{TIMES}, {share:.1f} %{stands_for}"


def _set_sizes(axes: Axes, results: Results) -> None:
    """Choose the axis of sizes."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    sizes = [point.bytes for point in results.points] + [trial.bytes for trial in results.dropped]
    if not is_logarithmic(sizes):
        return
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", color=LINE)


def _draw_frame(axes: Axes, title: str, results: Results, unit: Unit) -> None:
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=12, parse_math=False)
    _set_sizes(axes, results)
    axes.set_xlabel(f"size on disk, {unit.name}", color=INK)
    axes.set_ylabel(f"quality, mean {metric_name(results.metric)} over language pairs", color=INK)
    axes.grid(color="#eceff3", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.09, y=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)
    axes.tick_params(colors=FAINT, labelsize=9)
    if (shown := quality_range(results)) is not None:
        axes.set_ylim(*shown)
    if not results.points:
        axes.text(0.5, 0.5, "no trial ended well", transform=axes.transAxes, ha="center", color=FAINT)


def _draw_points(figure: Figure, axes: Axes, results: Results, unit: Unit, published: Sequence[Placed]) -> None:
    front = results.line
    baseline = results.baseline
    if baseline is not None:
        axes.axhline(baseline.quality, color=LINE, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    axes.step(
        [unit.of(point.bytes) for point in front],
        [point.quality for point in front],
        where="post",
        color=FAINT,
        linewidth=1.0,
        alpha=0.7,
        zorder=2,
    )
    named = kinds_of(point for point in results.points if stands(point))
    others = [point for point in results.points if point.record.candidate.kind not in named]
    for index, kind in enumerate(kind for kind in named if kind != "baseline"):
        of_kind = [point for point in results.points if point.record.candidate.kind == kind]
        # Each round of colours takes the shapes one further, so that no two of 49 kinds look alike.
        colour = COLOURS[index % len(COLOURS)]
        shape = SHAPES[(index + index // len(COLOURS)) % len(SHAPES)]
        _draw_kind(axes, of_kind, baseline=baseline, unit=unit, kind=kind, colour=colour, shape=shape)
    if others:
        _draw_kind(axes, others, baseline=baseline, unit=unit, kind=OTHERS, colour=FAINT, shape=".")
    if baseline is not None:
        axes.scatter(
            unit.of(baseline.bytes),
            baseline.quality,
            s=150,
            marker="*",
            zorder=5,
            label="baseline",
            color="white" if baseline.tie else INK,
            edgecolor=INK,
        )
        most = max([point.ratio for point in results.points] + [baseline.bytes / one.bytes for one in published])
        _draw_ratios(axes, baseline, most, unit)
    _box_references(axes, results, unit)
    _draw_dropped(axes, results, unit)
    _draw_published(axes, results, unit, published)
    _mark_far_off(axes, results, unit)
    _explain_marks(axes, results)
    if results.points:
        figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=7, labelcolor=INK)


def _draw_kind(
    axes: Axes, points: Sequence[Point], baseline: Point | None, unit: Unit, kind: str, colour: str, shape: str
) -> None:
    for point in points:
        alpha = 1.0 if point.on_frontier or point.tie or point.is_reference else OFF_FRONTIER
        if bounds := interval_bounds(point, baseline):
            axes.vlines(unit.of(point.bytes), *bounds, color=colour, linewidth=1.3, alpha=0.75 * alpha, zorder=3)
        if point.kept_off:
            axes.scatter(unit.of(point.bytes), point.quality, s=40, marker="x", color=colour, alpha=0.6, zorder=4)
            continue
        face, edge, width = ("white", colour, 1.5) if point.tie else (colour, "white", 0.7)
        axes.scatter(
            unit.of(point.bytes),
            point.quality,
            s=46,
            marker=shape,
            color=face,
            alpha=alpha,
            edgecolor=edge,
            linewidth=width,
            zorder=4,
        )
    axes.scatter([], [], s=46, marker=shape, color=colour, label=kind)


def _box_references(axes: Axes, results: Results, unit: Unit) -> None:
    """A box around each mark that the study names."""
    if marks := results.references:
        axes.scatter(
            [unit.of(point.bytes) for point in marks],
            [point.quality for point in marks],
            s=150,
            marker="s",
            facecolor="none",
            edgecolor=INK,
            linewidth=0.9,
            zorder=5,
            label=REFERENCE_LABEL,
        )


def _draw_dropped(axes: Axes, results: Results, unit: Unit) -> None:
    """Trials that a race ended, faintly, where they were heading."""
    if results.dropped:
        axes.scatter(
            [unit.of(trial.bytes) for trial in results.dropped],
            [trial.race.projected for trial in results.dropped],
            s=40,
            marker="_",
            color=LINE,
            zorder=2,
            label="dropped early, where it was heading",
        )


def _draw_published(axes: Axes, results: Results, unit: Unit, published: Sequence[Placed]) -> None:
    """Other people's points, hollow and grey; at the axis' edge where they lie beyond it."""
    if not published:
        return
    low, high = quality_range(results) or (-math.inf, math.inf)
    axes.scatter(
        [one.bytes / unit.bytes for one in published],
        [min(max(one.quality, low), high) for one in published],
        s=52,
        marker="h",
        color="white",
        edgecolor=FAINT,
        linewidth=1.3,
        zorder=4,
        clip_on=False,
        label=PUBLISHED,
    )


def _mark_far_off(axes: Axes, results: Results, unit: Unit) -> None:
    """What lies below or above the axis, at its edge: it must not squeeze what stands."""
    if (shown := quality_range(results)) is None:
        return
    low, high = shown
    places = [(point.bytes, point.quality) for point in results.points]
    places += [(trial.bytes, trial.race.projected) for trial in results.dropped]
    label = FAR_OFF_LABEL
    beyond = (
        ("v", low, [size for size, quality in places if quality < low]),
        ("^", high, [size for size, quality in places if quality > high]),
    )
    for marker, edge, outside in beyond:
        if outside:
            sizes = [unit.of(size) for size in outside]
            axes.scatter(
                sizes,
                [edge] * len(sizes),
                s=34,
                marker=marker,
                color=FAINT,
                alpha=0.6,
                zorder=3,
                clip_on=False,
                label=label,
            )
            label = "_nolegend_"


def _labelled(results: Results) -> list[Point]:
    """The frontier's points and the references on the picture, and the smallest of the frontier's ties while labels are
    few."""
    shown = quality_range(results)
    marks = [
        point
        for point in results.references
        if not point.on_frontier and (shown is None or shown[0] <= point.quality <= shown[1])
    ]
    ties = [point for point in results.ties if point.steps and point not in marks]
    return [*results.frontier, *marks, *ties[: max(MOST_LABELS - len(results.frontier) - len(marks), 0)]]


def _explain_marks(axes: Axes, results: Results) -> None:
    """Legend entries of the marks that points of every kind can have."""
    if results.ties:
        axes.scatter([], [], s=46, marker="o", color="white", edgecolor=FAINT, linewidth=1.5, label=TIE_LABEL)
    if results.kept_off:
        axes.scatter([], [], s=40, marker="x", color=FAINT, label=KEPT_OFF_LABEL)


def _draw_ratios(axes: Axes, baseline: Point, most: float, unit: Unit) -> None:
    """A second scale above: how many times smaller than the baseline."""
    ratios = [ratio for ratio in RATIOS if ratio <= most * 1.05]
    above = axes.secondary_xaxis("top")
    above.set_xticks([unit.of(baseline.bytes) / ratio for ratio in ratios], [f"{ratio:g}{TIMES}" for ratio in ratios])
    above.minorticks_off()
    above.tick_params(colors=FAINT, labelsize=8, length=3)
    above.spines["top"].set_visible(False)
