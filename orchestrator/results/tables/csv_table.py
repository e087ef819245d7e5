"""`frontier.csv`: what a study found as a table for other programs, a row a trial that did not fail."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping

from orchestrator.results.points import Dropped, Point, Results
from workers.scoring.metrics import Interval

FIRST_COLUMNS = (
    "trial",
    "steps",
    "bytes",
    "ratio",
    "chrf",
    "bleu",
    "worst_pair",
    "chrf_low",
    "chrf_high",
    "on_frontier",
)
ALWAYS = ("chrf", "bleu")


def frontier_csv(results: Results) -> str:
    """A row a trial, by trial number.

    The first ten columns are the same in every study. worst_pair is of the study's quality, which `quality` names;
    every further metric has a column, and `NAME_low` and `NAME_high` where it has an interval. A trial that a race
    ended early has no scores, since it was not measured on every segment: `segments`, `race`, `race_by` and `projected`
    say how it ended; race_by is the baseline for one below the floor. sanity_CHECK is the share of hypotheses that
    failed a check, kept_off why a point may not stand on the frontier, tie the trial of the frontier's point that it is
    not told apart from, beaten_by the trial of a point no larger that is shown to be better, lost_at_most the most that
    it may have lost against the baseline, at an error of 5 % for all of them together. tie and beaten_by are as the
    held-out data have it, where there are any; lost_at_most is of these too, where the point was scored there.
    reference is 1 for a mark that the study names.
    """
    rows = sorted(
        [
            *(_row(point) for point in results.points),
            *(_dropped_row(trial, results.metric) for trial in results.dropped),
        ],
        key=lambda row: int(str(row["trial"])),
    )
    text = io.StringIO()
    writer = csv.DictWriter(text, columns(results), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def columns(results: Results) -> list[str]:
    """The columns of a study's table."""
    intervals = {name for point in results.points for name in _intervals(point)}
    measurements = [*(point.measurement for point in results.points), *(drop.measurement for drop in results.dropped)]
    checks = dict.fromkeys(check for measurement in measurements for check in measurement.sanity)
    speeds = dict.fromkeys(name for point in results.points for name in point.speeds)
    names = [*FIRST_COLUMNS, "quality", "worst_pair_name"]
    for metric in results.metrics:
        names += [] if metric in ALWAYS else [metric]
        names += [f"{metric}_low", f"{metric}_high"] if metric in intervals and metric != "chrf" else []
    return [
        *names,
        "segments",
        "race",
        "race_by",
        "projected",
        "tie",
        "beaten_by",
        "lost_at_most",
        "kept_off",
        "reference",
        *(f"sanity_{check}" for check in checks),
        *(f"speed_{name}" for name in speeds),
    ]


def _row(point: Point) -> Mapping[str, object]:
    measurement = point.measurement
    scores = {metric: f"{measurement.overall(metric):.6f}" for metric in measurement.scores}
    bounds = {
        f"{metric}_{end}": f"{getattr(interval, end):.6f}"
        for metric, interval in _intervals(point).items()
        for end in ("low", "high")
    }
    pair, worst = measurement.worst_pair(point.metric)
    return {
        **scores,
        **bounds,
        "trial": point.record.number,
        "steps": point.steps,
        "bytes": point.bytes,
        "ratio": _ratio(point.ratio),
        "worst_pair": f"{worst:.6f}",
        "on_frontier": int(point.on_frontier),
        "quality": point.metric,
        "worst_pair_name": pair,
        "segments": measurement.segments,
        "tie": point.tie.number if point.tie else "",
        "beaten_by": point.beaten_by.number if point.beaten_by else "",
        "lost_at_most": "" if (loss := (point.held_out or point).loss) is None else f"{loss.at_most:.6f}",
        "kept_off": "; ".join(point.kept_off),
        "reference": int(point.is_reference),
        **{f"sanity_{check}": f"{share:.6f}" for check, share in measurement.sanity.items()},
        **{f"speed_{name}": f"{value:.6g}" for name, value in point.speeds.items()},
    }


def _dropped_row(trial: Dropped, quality: str) -> Mapping[str, object]:
    return {
        "trial": trial.record.number,
        "steps": trial.record.candidate.describe(),
        "bytes": trial.bytes,
        "ratio": _ratio(trial.ratio),
        "on_frontier": 0,
        "quality": quality,
        "segments": trial.race.segments,
        "race": trial.race.verdict,
        "race_by": trial.race.by,
        "projected": f"{trial.race.projected:.6f}",
        "reference": 0,
        **{f"sanity_{check}": f"{share:.6f}" for check, share in trial.measurement.sanity.items()},
    }


def _ratio(ratio: float) -> str:
    return f"{ratio:.6f}" if math.isfinite(ratio) else ""


def _intervals(point: Point) -> Mapping[str, Interval]:
    return {**point.beside} if point.interval is None else {point.metric: point.interval, **point.beside}
