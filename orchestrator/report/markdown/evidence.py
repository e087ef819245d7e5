"""What a page sets beside its points: control arms, reference marks, published models, and what did not work."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.number_format import NONE, metric_name, ratio_text, spell_bytes
from orchestrator.report.control import cost_text, kept_text
from orchestrator.report.markdown.content import PageContent
from orchestrator.report.markdown.references import references
from orchestrator.report.markdown.syntax import escape, percent, short, table
from orchestrator.report.sections.unfinished import VERDICTS, spelt
from orchestrator.results.step_labels import short_label
from workers.scoring.sanity import IN_WORDS

# Of a group of trials that ended alike, how many are named.
NAMED = 5
# How `judge_on_test` begins a reason of the held-out data.
ON_HELD_OUT = "on held-out data: "


def controls_parts(content: PageContent) -> list[str]:
    """What the training alone brings, and what trained points keep of that; empty where none trained."""
    controls = content.controls
    if not controls.arms:
        return [f"No control arm: {escape(controls.why)}."] if controls.why else []
    rows = []
    for arm in controls.arms:
        label = f"{short_label(arm.record.candidate)} on the uncompressed model"
        if arm.tuned is None or arm.of_untouched is None:
            why = "not measured" if arm.failure is None else f"failed: {short(arm.failure.message)}"
            rows.append([label, why, NONE, NONE, NONE])
            continue
        where = "held-out test" if arm.split == "test" else "dev"
        rows.append([f"{label}, {where}", f"{arm.tuned.quality:.2f}", kept_text(arm.of_untouched), NONE, NONE])
        for one in arm.compared:
            rows.append(
                [
                    f"trial {one.number}: {short_label(one.point.record.candidate)}",
                    f"{one.of_untouched.point.quality:.2f}",
                    kept_text(one.of_untouched),
                    kept_text(one.of_tuned),
                    kept_text(one.worst_of_tuned),
                ]
            )
    quality = metric_name(content.dev.metric)
    head = [
        ("", True),
        (quality, False),
        ("Of the untouched model (95 %)", False),
        ("Of the tuned model (95 %)", False),
        ("Of the tuned model, worst pair (95 %)", False),
    ]
    said = (
        "The uncompressed model was given the same training: the same steps, data and budget. What a point keeps of "
        "that model is what the compression costs; what it keeps of the untouched one has the training in it. "
    )
    return [said + cost_text(controls), table(head, rows)]


def references_table(content: PageContent) -> str:
    """One quantizer alone: what people use without a search; empty where none was measured in full."""
    quality = metric_name(content.dev.metric)
    baseline = content.dev.baseline
    rows = []
    for point in references(content):
        kept = content.kept(point)
        share = percent(point.quality / baseline.quality) if baseline is not None and baseline.quality > 0 else NONE
        standing = "on the frontier" if point.on_frontier else "kept off" if point.kept_off else ""
        standing = standing or ("not told apart" if point.tie else "beaten")
        judged = kept_text(kept[0]) if kept else NONE
        rows.append(
            [
                str(point.record.number),
                short_label(point.record.candidate),
                ratio_text(point.ratio),
                share,
                judged,
                standing,
            ]
        )
    head = [
        ("Trial", False),
        ("Quantizer alone", True),
        ("Ratio", False),
        (f"{quality} kept on dev", False),
        (f"{quality} kept on the held-out test (95 %)" if content.of_test else f"{quality} kept (95 %)", False),
        ("Standing", True),
    ]
    return table(head, rows)


def published_table(content: PageContent) -> str:
    """Other people's models, the least reduced first; empty where none was given."""
    points = sorted(content.published, key=lambda one: (one.ratio is None, one.ratio or 0.0))
    columns = [
        ("Published", True, [one.name for one in points]),
        ("Model", True, [one.model for one in points]),
        ("Ratio", False, [NONE if one.ratio is None else ratio_text(one.ratio) for one in points]),
        ("Size", False, [NONE if one.bytes is None else spell_bytes(one.bytes) for one in points]),
        ("Kept", False, [NONE if one.kept_percent is None else f"{one.kept_percent:.1f} %" for one in points]),
        ("Score", False, [NONE if one.score is None else f"{one.score:.2f}" for one in points]),
        ("Metric", True, [metric_name(one.metric) for one in points]),
        ("Source", True, [one.source for one in points]),
    ]
    said = [column for column in columns if set(column[2]) - {NONE, ""}]
    return table([(name, left) for name, left, _ in said], list(zip(*(cells for _, _, cells in said), strict=True)))


def negative_parts(content: PageContent) -> list[str]:
    """The trials that failed, that a race dropped and that were kept off, grouped by why; and those that are beaten, by
    their number."""
    groups: dict[str, list[str]] = {}
    for record, failure in content.dev.failures:
        said = f"trial {record.number} ({short_label(record.candidate)}): {short(failure.message)}"
        groups.setdefault(f"failed, {spelt(failure)} in {failure.stage}", []).append(said)
    for trial in content.dev.dropped:
        said = f"trial {trial.record.number} ({short_label(trial.record.candidate)}, {ratio_text(trial.ratio)})"
        groups.setdefault(f"dropped early, {VERDICTS[trial.race.verdict]}", []).append(said)
    for point in content.dev.kept_off:
        for reason in point.kept_off:
            said = f"trial {point.record.number} ({short_label(point.record.candidate)}, {ratio_text(point.ratio)})"
            groups.setdefault(f"kept off the frontier, {_check(reason)}", []).append(f"{said}: {reason}")
    if content.test is not None:
        for record, failure in content.test.failures:
            said = f"{short_label(record.candidate)}: {short(failure.message)}"
            groups.setdefault(f"failed on the held-out test, {spelt(failure)}", []).append(said)
    beaten = [point for point in content.dev.points if point.beaten_by is not None]
    if beaten:
        groups["measured in full, and beaten by a point of no more bytes"] = [
            f"trial {point.record.number} ({short_label(point.record.candidate)}, {ratio_text(point.ratio)})"
            for point in beaten
        ]
    if not groups:
        return ["No trial failed, was dropped early, kept off the frontier or beaten."]
    return [_group(why, trials) for why, trials in sorted(groups.items(), key=lambda one: (-len(one[1]), one[0]))]


def _check(reason: str) -> str:
    """What kept a point off, without its numbers."""
    check = next((words for words in IN_WORDS.values() if words in reason), None)
    if check is not None:
        return f"translations that {check}"
    return reason.removeprefix(ON_HELD_OUT).partition(":")[0]


def _group(why: str, trials: Sequence[str]) -> str:
    more = len(trials) - NAMED
    lines = [f"- {escape(one)}" for one in trials[:NAMED]]
    lines += [f"- and {more:,} more"] if more > 0 else []
    return f"**{escape(why)}: {len(trials):,}**\n\n" + "\n".join(lines)
