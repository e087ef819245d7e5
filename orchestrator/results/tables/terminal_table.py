"""The frontier in the terminal: a table that fits 80 columns, and what is said of trials that are not on it."""

from __future__ import annotations

import math
from textwrap import fill

from rich import box
from rich.console import Console
from rich.table import Table

from orchestrator.number_format import metric_name, spell_bytes
from orchestrator.results.baseline import baseline_faults
from orchestrator.results.control import ControlArms
from orchestrator.results.labels import COSTS, cost_text, marked_label, score_of
from orchestrator.results.points import QUALITIES, Dropped, Point, Results
from orchestrator.results.statement import flattered_said, groups_said
from orchestrator.results.step_labels import short_label
from orchestrator.statistics.telling_apart import LEAST_DOCUMENTS
from search_spaces.wording import pluralize
from workers.training.enough import TROUBLES

# Columns left to the candidate below which the worst pair gives its place up.
ROOM_FOR_CANDIDATE = 22
TIE = "="
NO_BREAK = "\N{NO-BREAK SPACE}"


def print_frontier(console: Console, dev: Results, test: Results | None) -> None:
    """The frontier as a table, and below it the reference points that are not on it; the interval is of the difference
    from the baseline."""
    for fault in baseline_faults((dev, test)):
        print_sentence(console, f"warning: {fault}")
    beside = [metric for metric in QUALITIES if metric != dev.metric and metric in dev.metrics]
    scores = [(metric_name(metric), 6) for metric in (dev.metric, *beside)]
    last = [(COSTS[dev.third], 9)] if dev.third else []
    last += [("held-out", 9)] if test else []
    fixed = sum(width for _, width in [("trial", 6), ("size", 9), ("ratio", 6), *scores, ("interval", 14), *last])
    roomy = console.width - fixed - len("worst pair") - 3 >= ROOM_FOR_CANDIDATE
    names = ["size", "ratio", scores[0][0], "95 % interval", *(name for name, _ in scores[1:])]
    names += [*(["worst pair"] if roomy else []), *(name for name, _ in last)]
    title = f"Frontier of quality, size and {dev.third}" if dev.third else "Quality-versus-size frontier"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("candidate", overflow="fold")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    held_out = {point.record.candidate.digest: point for point in test.points} if test else {}
    shown = dev.shown
    others = [point for point in dev.references if point not in shown]
    for point in (*shown, *others):
        if others and point is others[0]:
            table.add_section()
        judged = held_out.get(point.record.candidate.digest)
        row = [
            str(point.record.number),
            marked_label(point),
            spell_bytes(point.bytes),
            _spell_ratio(point),
            f"{_tie_mark(point)}{point.quality:.2f}",
            _spell_interval(point),
            *(_spell_score(point, metric) for metric in beside),
        ]
        if roomy:
            pair, worst = point.measurement.worst_pair(dev.metric)
            row.append(f"{pair} {worst:.2f}")
        if dev.third:
            row.append(cost_text(point, dev.third))
        if test is not None:
            row.append("" if judged is None else f"{judged.quality:.2f}")
        table.add_row(*row)
    console.print(table)
    for line in lines_below(dev):
        print_sentence(console, line)


def print_sentence(console: Console, line: str) -> None:
    """A line of its own: a terminal has it broken between words, with what follows indented; a file has it whole."""
    if console.is_terminal:
        # A number stays with its unit.
        line = line.replace(" %", f"{NO_BREAK}%")
        line = fill(line, console.width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        line = line.replace(NO_BREAK, " ")
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def lines_below(results: Results) -> list[str]:
    """What the table's mark means, which trials are not in it for a reason of their own, which training did harm or
    nothing, and what dev flatters."""
    lines = [f"{TIE} {line}" for line in groups_said(results)]
    if lines and results.spread is not None and results.spread.documents < LEAST_DOCUMENTS:
        documents = pluralize(results.spread.documents, "document")
        lines.append(f"{documents} tell no trial from another; that takes {LEAST_DOCUMENTS}")
    lines += [
        f"trial {point.record.number} ({short_label(point.record.candidate)}) is kept off the frontier: "
        + "; ".join(point.kept_off)
        for point in results.kept_off
    ]
    lines += [
        f"trial {trial.record.number} ({short_label(trial.record.candidate)}) was {trial.why}"
        for trial in results.dropped
    ]
    trials: list[Point | Dropped] = sorted([*results.points, *results.dropped], key=lambda trial: trial.record.number)
    lines += [
        f"trial {trial.record.number} ({short_label(trial.record.candidate)}): {note}"
        for trial in trials
        for note in trial.measurement.notes
        if note.startswith(TROUBLES)
    ]
    flattered = flattered_said(results)
    return lines if flattered is None else [*lines, flattered]


def control_lines(controls: ControlArms) -> list[str]:
    """What the training alone brings, a line an arm, and what its best point keeps of that."""
    if controls.why:
        return [f"control   none: {controls.why}"]
    lines = []
    for arm in controls.arms:
        what = f"control   {short_label(arm.record.candidate)} on the uncompressed model"
        if arm.of_untouched is None:
            lines.append(f"{what}: {'not measured' if arm.failure is None else f'failed, {arm.failure.message}'}")
            continue
        where = "the held-out test" if arm.split == "test" else "dev"
        kept = [f"trial {one.number} keeps {one.of_tuned.share:.1%} of that" for one in arm.compared]
        lines.append(f"{'; '.join([f'{what} has {arm.of_untouched.share:.1%} of the baseline on {where}', *kept])}")
    return lines


def _tie_mark(point: Point) -> str:
    return f"{TIE} " if point.tie else ""


def _spell_ratio(point: Point) -> str:
    """Empty where there is no baseline to be smaller than."""
    return f"{point.ratio:.2f}x" if math.isfinite(point.ratio) else ""


def _spell_score(point: Point, metric: str) -> str:
    score = score_of(point, metric)
    return "" if score is None else f"{score:.2f}"


def _spell_interval(point: Point) -> str:
    if point.interval is None or not point.steps:
        return ""
    return f"{point.interval.low:+.2f} {point.interval.high:+.2f}"
