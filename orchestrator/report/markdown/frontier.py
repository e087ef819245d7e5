"""The points of a page as tables: what each keeps, by language pair, where its bytes are, and what it took."""

from __future__ import annotations

from orchestrator.number_format import NONE, metric_name, ratio_text, signed
from orchestrator.report.control import kept_text
from orchestrator.report.markdown.content import PageContent, training_tokens
from orchestrator.report.markdown.syntax import percent, table
from orchestrator.report.sections.bytes_and_time import SPLITS
from orchestrator.results.labels import score_of
from orchestrator.results.points import Point
from orchestrator.results.step_labels import short_label
from search_spaces.sizes.byte_parts import PARTS
from search_spaces.wording import pluralize

BLEU = "bleu"


def points_table(content: PageContent) -> str:
    """A row a point, from the largest."""
    quality, clock = metric_name(content.dev.metric), content.clock
    head = [
        ("Trial", False),
        ("Candidate", True),
        ("Ratio", False),
        ("Bytes", False),
        (quality, False),
        (f"{quality} kept, mean (95 %)", False),
        ("Kept of the worst pair (95 %)", False),
        (metric_name(BLEU), False),
        ("Tokens trained on", False),
        (f"{clock}-minutes", False),
        ("Frontier", True),
    ]
    return table(head, [_row(content, point) for point in content.shown])


def _row(content: PageContent, point: Point) -> list[str]:
    there, kept = content.on_judged(point), content.kept(point)
    bleu = None if there is None else score_of(there, BLEU)
    tokens = training_tokens(point)
    return [
        str(point.record.number),
        short_label(point.record.candidate),
        ratio_text(point.ratio),
        f"{point.bytes:,}",
        NONE if there is None else f"{there.quality:.2f}",
        *([kept_text(one) for one in kept] if kept else [NONE, NONE]),
        NONE if bleu is None else f"{bleu:.2f}",
        f"{tokens:,}" if tokens else NONE,
        f"{content.minutes(point):.2f}",
        "yes" if point.on_frontier else "not told apart" if point.tie else "no",
    ]


def pairs_table(content: PageContent) -> str:
    """A row a language pair, a column a point: the score, and of a compressed point what it keeps; empty for one
    pair."""
    baseline = content.judged.baseline
    points = [(point, there) for point in content.shown if (there := content.on_judged(point)) is not None]
    if baseline is None or len(baseline.measurement.scores[content.judged.metric]) < 2:
        return ""
    metric = content.judged.metric
    head = [("Pair", True), *((f"{point.record.number}: {ratio_text(point.ratio)}", False) for point, _ in points)]
    rows = []
    for pair, whole in sorted(baseline.measurement.scores[metric].items()):
        cells = []
        for point, there in points:
            value = there.measurement.scores[metric][pair].value
            share = f" ({percent(value / whole.value)})" if point.steps and whole.value > 0 else ""
            cells.append(f"{value:.2f}{share}")
        rows.append([pair, *cells])
    return table(head, rows)


def bytes_table(content: PageContent) -> str:
    """Where each point's bytes are; empty where nothing is known."""
    known = [point for point in content.shown if point.record.number in content.parts]
    order = [part for part in PARTS if any(part in content.parts[point.record.number].parts for point in known)]
    unit = content.unit
    rows = []
    for point in known:
        found = content.parts[point.record.number]
        label = short_label(point.record.candidate) + (" *" if found.predicted else "")
        sizes = [f"{unit.of(found.parts[part]):,.2f}" if part in found.parts else NONE for part in order]
        rows.append([str(point.record.number), label, *sizes])
    return table([("Trial", False), ("Candidate", True), *((f"{part}, {unit.name}", False) for part in order)], rows)


def cost_table(content: PageContent) -> str:
    """What each point took by itself, and the whole study."""
    clock = content.clock
    rows = [
        [str(point.record.number), short_label(point.record.candidate), f"{content.minutes(point) / 60:.4f}"]
        for point in content.shown
    ]
    for split, (count, _) in content.cost.splits.items():
        spent = content.minutes_of([one for one in content.ledger.of_all_splits if one.split == split]) / 60
        rows.append([NONE, f"all of the {SPLITS.get(split, split)}: {pluralize(count, 'trial')}", f"{spent:.4f}"])
    whole = content.minutes_of(content.ledger.of_all_splits) / 60
    rows.append([NONE, f"the whole study: {pluralize(content.cost.trials, 'trial')} of all kinds", f"{whole:.4f}"])
    return table([("Trial", False), ("Candidate", True), (f"{clock}-hours", False)], rows)


def predictions_table(content: PageContent) -> str:
    """Predicted bytes beside those on disk, and of points that the profile chose what they were expected to keep beside
    what they keep on dev."""
    base = content.dev.baseline
    foreseen = any(point.record.why for point in content.shown)
    rows = []
    for point in content.shown:
        if not point.steps:
            continue
        why = point.record.why
        cells = [
            str(point.record.number),
            short_label(point.record.candidate),
            f"{point.record.predicted_bytes:,}",
            f"{point.bytes:,}",
            f"{signed(100 * (point.bytes / point.record.predicted_bytes - 1), 3)} %"
            if point.record.predicted_bytes
            else NONE,
        ]
        if foreseen and base is not None:
            told = f"{percent(why['kept'])} ({percent(why['low'])} to {percent(why['high'])})" if why else NONE
            cells += [told, percent(point.quality / base.quality) if base.quality > 0 else NONE]
        rows.append(cells)
    head = [("Trial", False), ("Candidate", True), ("Predicted bytes", False), ("Bytes", False), ("Off by", False)]
    if foreseen:
        head += [("Expected to keep (90 %)", False), ("Kept on dev", False)]
    return table(head, rows)
