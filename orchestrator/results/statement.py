"""What a study recommends, in words: the smallest candidate shown to lose less than a margin, or why none is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.ledger.records import TrialRecord
from orchestrator.number_format import metric_name, ratio_text, signed
from orchestrator.results.points import Point, Results
from orchestrator.results.step_labels import short_label
from orchestrator.statistics.telling_apart import ALPHA, LEAST_FOR_LOSS, LossBound, Spread
from search_spaces.wording import pluralize
from workers.scoring.human_agreement import LEAST, margin

HELD_OUT, DEV = "the held-out test", "dev"


@dataclass(frozen=True, slots=True)
class Statement:
    """said: one or two sentences. point: the candidate that is recommended, as the split judged it; None where none is
    shown to lose less than the margin. bold: whether there is one."""

    said: str
    point: Point | None = None

    @property
    def bold(self) -> bool:
        return self.point is not None


def statement(dev: Results, test: Results | None, asked: float | None = None) -> Statement | None:
    """What the held-out data say of the candidates, or dev where the baseline has no score on any; None where there is
    nothing to compare.

    A candidate is recommended when the most that it may have lost is below the margin, and of these the smallest. The
    error is 5 % for all candidates together, so that the choice among them is covered. asked: the study's own margin,
    in the metric's points; None is the least difference that people notice, as published.
    """
    results, split = (test, HELD_OUT) if test is not None and test.baseline is not None else (dev, DEV)
    limit = margin(results.metric) if asked is None else asked
    if results.baseline is None or limit is None or results.spread is None:
        return None
    if not any(point.steps and not point.kept_off for point in results.points):
        return None
    bounds = _bounds(results)
    if not bounds:
        weaker = f" {_most(_bounds(dev), dev)} That is of dev, which chose it." if _bounds(dev) else ""
        return Statement(_too_few(results.spread, split) + weaker)
    below = min(
        ((point, loss) for point, loss in bounds if loss.at_most < limit),
        key=lambda found: (found[0].bytes, found[0].record.number),
        default=None,
    )
    margin_text = f"the margin of {_points(limit, results.metric)}{_about_margin(asked)}"
    if below is None:
        return Statement(
            _none_shown(bounds, limit, margin_text=margin_text, spread=results.spread, dev=dev, split=split)
        )
    point, loss = below
    said = (
        f"Smallest with no loss that matters: {_named(point, dev)}, {ratio_text(point.ratio)} smaller: "
        f"{signed(loss.difference)} {metric_name(results.metric)} on {split}, {_at_most(loss)}, below {margin_text}."
    )
    return Statement(said + (_caution() if split == DEV else ""), point)


def with_folder(found: Statement, dev: Results, folders: Mapping[int, Path]) -> list[str]:
    """The statement's lines in a terminal: what is said, and where the recommended model lies, if it was kept."""
    folder = None if found.point is None else folders.get(on_dev(found.point.record, dev).number)
    return [found.said, *([] if folder is None else [f"It is in {folder}"])]


def flattered_said(dev: Results) -> str | None:
    """Which compressed points keep more of the baseline on dev than on held-out data, such that their 95 % intervals
    lie apart, and by how much; None where there is none. It happens to models that were trained on what is like dev."""
    base = dev.baseline
    if base is None or base.held_out is None or min(base.quality, base.held_out.quality) <= 0:
        return None
    found: dict[int, float] = {}
    for point in dev.points:
        own, there = point.interval, None if point.held_out is None else point.held_out.interval
        if not point.steps or own is None or there is None or point.held_out is None:
            continue
        if own.low / base.quality > there.high / base.held_out.quality:
            less = point.quality / base.quality - point.held_out.quality / base.held_out.quality
            found[point.record.number] = 100 * less
    if not found:
        return None
    keep = f"trials {join_numbers(sorted(found))} keep" if len(found) > 1 else f"trial {next(iter(found))} keeps"
    by = " to ".join(sorted({f"{min(found.values()):.1f}", f"{max(found.values()):.1f}"}, key=float))
    return (
        f"Dev flatters: on the held-out test {keep} {by} points of 100 less of the baseline's quality than on dev, "
        "beyond both intervals. Dev may be more like the training data; take the held-out figures."
    )


def groups_said(results: Results) -> list[str]:
    """A sentence for each point of the frontier that others are not told apart from, naming them all."""
    lines = []
    for point in reversed(results.frontier):
        ties = sorted(
            other.record.number for other in results.points if other.tie and other.tie.key == point.record.key
        )
        if ties:
            numbers = f"{'trial' if len(ties) == 1 else 'trials'} {join_numbers(ties)}"
            verb = "is" if len(ties) == 1 else "are"
            lines.append(f"{numbers} {verb} not told apart from trial {point.record.number}, which is no larger")
    return lines


def join_numbers(numbers: Sequence[int]) -> str:
    """`1`, `1 and 2`, `1, 2 and 3`."""
    words = [str(number) for number in numbers]
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def _none_shown(
    bounds: Sequence[tuple[Point, LossBound]], limit: float, margin_text: str, spread: Spread, dev: Results, split: str
) -> str:
    """That no loss below the margin was shown, how much data would show one, and what can be said instead."""
    most = _most(bounds, dev)
    needed = [(count, found) for found, own in bounds if (count := own.segments_needed(limit)) is not None]
    if not needed:
        return f"No candidate loses less than {margin_text}, as measured on {split}. {most}"
    count, nearest = min(needed, key=lambda found: (found[0], found[1].bytes))
    return (
        f"These data can't tell whether a candidate loses less than {margin_text}: {spread.segments:,} segments of "
        f"{split}, and about {count:,} would be needed for {_named(nearest, dev)}, which comes nearest. {most}"
    )


def _bounds(results: Results) -> list[tuple[Point, LossBound]]:
    """The compressed points that may stand, each with the most that it may have lost."""
    allowed = (point for point in results.points if point.steps and not point.kept_off)
    return [(point, point.loss) for point in allowed if point.loss is not None]


def _most(bounds: Sequence[tuple[Point, LossBound]], dev: Results) -> str:
    """The candidate that may have lost least, and how much."""
    point, loss = min(bounds, key=lambda found: (found[1].at_most, found[0].bytes))
    return (
        f"The most that can be said: {_named(point, dev)}, {ratio_text(point.ratio)} smaller: "
        f"{signed(loss.difference)} {metric_name(dev.metric)}, {_at_most(loss)}."
    )


def _too_few(spread: Spread, split: str) -> str:
    what = f"{spread.segments:,} segments in {pluralize(spread.documents, 'document')} of {split}"
    return (
        f"These data can't tell how much a candidate loses: {what}, and below {LEAST_FOR_LOSS} documents no loss is "
        "ruled out. Give more documents with --test."
    )


def _named(point: Point, dev: Results) -> str:
    record = on_dev(point.record, dev)
    return f"trial {record.number} ({short_label(record.candidate)})"


def on_dev(record: TrialRecord, dev: Results) -> TrialRecord:
    """The candidate's trial on dev, whose number names it everywhere."""
    same = (point.record for point in dev.points if point.record.candidate.digest == record.candidate.digest)
    return next(same, record)


def _at_most(loss: LossBound) -> str:
    return (
        f"a loss of at most {max(loss.at_most, 0.0):.2f} (one-sided {100 - 100 * ALPHA:g} %, all candidates together)"
    )


def _points(limit: float, metric: str) -> str:
    return f"{limit:.2f} {metric_name(metric)}"


def _about_margin(asked: float | None) -> str:
    return f" (fewer than {100 * LEAST:g} % of people would agree that less is a loss)" if asked is None else ""


def _caution() -> str:
    return " The same data chose it: held-out data (--test) would say more."
