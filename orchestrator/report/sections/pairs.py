"""The report's tables of scores by language pair, each beside the baseline's."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.number_format import NONE, Unit, metric_name, signed
from orchestrator.report.html_parts import cell, head, table, text
from orchestrator.results.points import Point, Results
from orchestrator.results.step_labels import short_label
from search_spaces.outcome import LOWER_IS_BETTER

# A difference of this many points gets the strongest tint: COMET's points are worth more.
TINT_AT = {"comet": 2.0, "cometkiwi": 2.0}
TINT_AT_ELSE = 8.0


def pairs_table(results: Results, points: Sequence[Point], unit: Unit) -> str:
    """Scores by language pair (rows) and point (columns), each with its difference from the baseline."""
    names = [("Pair", ""), ("Metric", "")]
    columns = "".join(
        f'<th scope="col" class="number point" title="{text(point.label)}">{text(short_label(point.record.candidate))}'
        f'<span class="note">{text(unit.text(point.bytes))}</span></th>'
        for point in points
    )
    header = head(names).replace("</tr></thead>", f"{columns}</tr></thead>")
    metrics = [metric for metric in results.metrics if points and metric in points[0].measurement.scores]
    rows = [
        _pair_row(pair, metric, row_class(at, len(metrics)), points, results.baseline)
        for pair in (sorted(points[0].measurement.scores[results.metric]) if points else [])
        for at, metric in enumerate(metrics)
    ]
    return table(header, rows, "pairs")


def row_class(at: int, count: int) -> str:
    """The class of a group's row number `at` of `count`: no line is drawn between the rows of one group."""
    return " ".join([*(["first"] if at < count - 1 else []), *(["second"] if at else [])])


def _pair_row(pair: str, metric: str, style: str, points: Sequence[Point], baseline: Point | None) -> str:
    cells = "".join(_pair_cell(pair, metric, point, baseline) for point in points)
    name = "" if "second" in style else text(pair)
    return f'<tr class="{style}"><th scope="row">{name}</th>{cell(metric_name(metric))}{cells}</tr>'


def _pair_cell(pair: str, metric: str, point: Point, baseline: Point | None) -> str:
    score = point.measurement.scores.get(metric, {}).get(pair)
    if score is None:
        return cell(NONE, style="number")
    usual = baseline.measurement.scores.get(metric, {}).get(pair) if baseline else None
    lowest = metric == point.metric and pair == point.measurement.worst_pair(metric)[0]
    shown = f'<strong title="its worst pair">{score.value:.2f}</strong>' if lowest else f"{score.value:.2f}"
    if usual is None or not point.steps:
        return cell(shown, style="number")
    return tinted_cell(shown, score.value - usual.value, metric)


def tinted_cell(shown: str, difference: float, metric: str) -> str:
    """A score's cell, with its difference from the baseline's and a tint by how much better or worse it is.

    shown: HTML.
    """
    tint = round(100 * min(abs(difference) / TINT_AT.get(metric, TINT_AT_ELSE), 1.0))
    side = "worse" if (difference > 0) == (metric in LOWER_IS_BETTER) and difference else "better"
    return (
        f'<td class="number tint {side}" style="--tint:{tint}%">{shown} '
        f'<span class="difference">{text(signed(difference))}</span></td>'
    )
