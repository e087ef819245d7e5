"""The control arms: what the training brings to the uncompressed model, and what trained points keep of that."""

from __future__ import annotations

from orchestrator.number_format import NONE, Unit, metric_name, spell_hours
from orchestrator.report.html_parts import cell, head, note, number, section, table, text
from orchestrator.results.answers import Kept
from orchestrator.results.control import ControlArm, ControlArms
from orchestrator.results.step_labels import short_label

NOTE = (
    "A point that was compressed and trained may owe its quality to the training. A control arm is the uncompressed "
    "model after the same training: the same steps, data and budget. What a point keeps of it is what the compression "
    "costs. A point that learnt from the teacher alone has a control that learns the same targets by cross-entropy: "
    "the uncompressed model is its own teacher. Shares are of the mean {metric} over language pairs on {data}, with "
    "the 95 % interval of a paired bootstrap."
)
WHERE = {"test": "the held-out test", "dev": "dev, for nothing held out was scored"}


def control_section(controls: ControlArms, metric: str, unit: Unit) -> str:
    """The section; empty where no point trained."""
    if not controls.arms:
        said = f"<p>No control arm: {text(controls.why)}.</p>" if controls.why else ""
        return section("control", "Control arms", said) if said else ""
    where = " and ".join(dict.fromkeys(WHERE[arm.split] for arm in controls.arms))
    parts = [note(NOTE.format(metric=metric_name(metric), data=where))]
    if controls.cost is not None:
        parts.append(note(cost_text(controls)))
    rows = [row for arm in controls.arms for row in _rows(arm, unit)]
    names = [
        ("", ""),
        (unit.name, "number"),
        (metric_name(metric), "number"),
        ("Of the untouched model", "number"),
        ("Of the tuned model", "number"),
        ("Of the tuned model, worst pair", "number"),
    ]
    return section("control", "Control arms", *parts, table(head(names), rows))


def cost_text(controls: ControlArms) -> str:
    """What the arms took."""
    cost = controls.cost
    if cost is None:
        return ""
    hours, unit = (cost.gpu_hours, "GPU-hours") if cost.gpu_hours else (cost.worker_hours, "worker-hours")
    return f"They took {spell_hours(hours)} {unit}, which count in the study's cost."


def _rows(arm: ControlArm, unit: Unit) -> list[str]:
    label = f"{short_label(arm.record.candidate)} on the uncompressed model"
    if arm.tuned is None or arm.of_untouched is None:
        why = "it was not measured" if arm.failure is None else f"it failed: {arm.failure.message}"
        return [f'<tr>{cell(text(label), style="full-steps")}<td colspan="5" class="warn">{text(why)}</td></tr>']
    rows = [
        [
            cell(f"<strong>{text(label)}</strong>", style="full-steps"),
            number(f"{unit.of(arm.tuned.bytes):,.2f}", arm.tuned.bytes),
            number(f"{arm.tuned.quality:.2f}", arm.tuned.quality),
            _share(arm.of_untouched),
            cell(NONE, style="number"),
            cell(NONE, style="number"),
        ]
    ]
    for one in arm.compared:
        judged = one.of_untouched.point
        rows.append(
            [
                cell(text(f"trial {one.number}: {short_label(one.point.record.candidate)}"), style="full-steps"),
                number(f"{unit.of(one.point.bytes):,.2f}", one.point.bytes),
                number(f"{judged.quality:.2f}", judged.quality),
                _share(one.of_untouched),
                _share(one.of_tuned),
                _share(one.worst_of_tuned),
            ]
        )
    return [f"<tr>{''.join(row)}</tr>" for row in rows]


def _share(kept: Kept) -> str:
    return number(kept_text(kept), kept.share)


def kept_text(kept: Kept) -> str:
    """`98.7 % (97.9 to 99.6)`, with the pair where it is of one."""
    between = f" ({100 * kept.interval.low:.1f} to {100 * kept.interval.high:.1f})" if kept.interval else ""
    return f"{100 * kept.share:.1f} %{between}{f', {kept.pair}' if kept.pair else ''}"
