"""The report's first screen: the answers to what a reader asks first, a sentence each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.number_format import TIMES, Unit, metric_name, ratio_text, spell_hours
from orchestrator.report.html_parts import note, text
from orchestrator.results.answers import (
    FAST_AT,
    Answer,
    Fastest,
    Kept,
    fastest,
    judged_by,
    on_the_mean,
    on_the_worst_pair,
)
from orchestrator.results.cost import Cost
from orchestrator.results.points import Results
from orchestrator.results.statement import Statement
from orchestrator.results.step_labels import short_label
from search_spaces.wording import pluralize
from workers.reading.segments import DataSet
from workers.scoring.metrics import Interval

ABOUT = (
    "The smallest models, as measured on {where}. In brackets is the 95 % interval of what is kept of the baseline's "
    "{metric}. No loss is shown of a model whose interval reaches 100 %{dev_too}, which is easier with few documents."
)
CAUTION = " The same data chose them: held-out data (--test) would say more."
NO_FOLDER = "its folder was not kept"


def answers_html(
    dev: Results,
    test: Results | None,
    data: DataSet,
    said: Statement | None,
    kept: Mapping[int, Path],
    cost: Cost,
    unit: Unit,
) -> str:
    """All answers. data: those that the answers are of. said: what is recommended. kept: trial number -> the folder of
    its model."""
    mean, worst = on_the_mean(dev, test), on_the_worst_pair(dev, test)
    rows = [_row(answer, at, worst, kept, unit) for at, answer in enumerate(mean)]
    columns = '<th scope="col">Mean over language pairs</th>' if worst else '<th scope="col">Smallest model</th>'
    columns += '<th scope="col">Pair that keeps least</th>' if worst else ""
    table = ""
    if rows:
        table = (
            f'<table class="answers"><thead><tr><th scope="col">Quality kept</th>{columns}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table>{note(_about(dev, test, data))}"
        )
    lines = [
        f'<p class="answer"><strong>{text(name)}</strong> {content}</p>'
        for name, content in (
            ("Fastest", _fastest_html(fastest(dev, test), dev, kept)),
            ("Cost", text(cost_text(cost))),
        )
    ]
    recommended = "" if said is None else f'<p class="statement">{_whole_flags(text(said.said))}</p>'
    return f'<section id="answers">{recommended}{table}{"".join(lines)}</section>'


def cost_text(cost: Cost) -> str:
    """`0.21 GPU-hours for 38 trials`, or worker-hours where no trial held a GPU."""
    what = f"{pluralize(cost.trials, 'trial')}: the search's, with probes, held-out scoring and timing."
    if cost.gpu_hours:
        return f"{spell_hours(cost.gpu_hours)} GPU-hours for {what}"
    return f"{spell_hours(cost.worker_hours)} worker-hours on CPUs for {what}"


def kept_text(one: Kept) -> str:
    """`keeps 98.3 % (97.4 to 99.1 %)`, of the pair where one is meant."""
    of = f" of {one.pair}" if one.pair else ""
    return f"keeps {100 * one.share:.1f} %{of}{_in_brackets(one.interval)}"


def _whole_flags(html: str) -> str:
    """The text with its `--flags` as code that no line breaks."""
    return re.sub(r"(?<![\w-])--[a-z][a-z-]*", lambda flag: f'<code class="one-line">{flag[0]}</code>', html)


def _row(answer: Answer, at: int, worst: Sequence[Answer], kept: Mapping[int, Path], unit: Unit) -> str:
    asked = "no loss shown" if answer.asked is None else f"{answer.asked:.0%}"
    cells = [_cell(answer, "mean", kept, unit), *([_cell(worst[at], "worst pair", kept, unit)] if worst else [])]
    return f'<tr><th scope="row">{text(asked)}</th>{"".join(cells)}</tr>'


def _cell(answer: Answer, of: str, kept: Mapping[int, Path], unit: Unit) -> str:
    one = answer.found or answer.nearest
    if one is None:
        return "<td>None.</td>"
    named = f"trial {one.number}, {short_label(one.point.record.candidate)} ({unit.text(one.point.bytes)})"
    if answer.found is None:
        said = f"<strong>None.</strong> Nearest: {text(named)}, {text(kept_text(one))}, "
        said += f"{text(ratio_text(one.point.ratio))} smaller."
    else:
        said = f"<strong>{text(ratio_text(one.point.ratio))} smaller</strong>: {text(named)}, {text(kept_text(one))}."
    digest = text(one.point.record.candidate.digest)
    return f'<td data-of="{text(of)}" data-digest="{digest}">{said} {_folder(one.number, kept)}</td>'


def _fastest_html(found: Fastest | None, dev: Results, kept: Mapping[int, Path]) -> str:
    """The fastest model at 99 %, or why there is none."""
    asked = f"at {FAST_AT:.0%} of the quality"
    if found is None:
        reasons = list(
            dict.fromkeys(str(point.speed.reason) for point in dev.points if point.speed and point.speed.reason)
        )
        if not any(point.speed for point in dev.points):
            return text(f"None {asked}: speed was not measured.")
        why = f": {reasons[0].rstrip('.')}" if reasons else ""
        return text(f"None {asked} could be timed{why}.")
    speed = f"{found.tokens_s:,.0f} tokens/s at {pluralize(found.batch, 'segment')} a batch"
    if found.kept is None:
        others = any(point.speed and point.speed.tokens_s and point.steps for point in dev.points)
        why = "nothing that was timed and keeps as much is faster" if others else "nothing else could be timed here"
        return text(f"The baseline itself, {speed}: {why}.")
    one = found.kept
    beside = f", {found.tokens_s / found.baseline:.2f}{TIMES} the baseline's" if found.baseline else ""
    named = f"trial {one.number}, {short_label(one.point.record.candidate)}"
    return f"{text(f'{named}: {speed}{beside}; {kept_text(one)}.')} {_folder(one.number, kept)}"


def _folder(number: int, kept: Mapping[int, Path]) -> str:
    folder = kept.get(number)
    if folder is None:
        return f'<span class="folder">({NO_FOLDER})</span>'
    return f'<code class="folder">{text(f"{folder.parent.name}/{folder.name}")}</code>'


def _about(dev: Results, test: Results | None, data: DataSet) -> str:
    results = judged_by(dev, test)
    documents = "" if results.spread is None else f", {pluralize(results.spread.documents, 'document')}"
    split = "dev" if results is dev else "the held-out test"
    where = f"{split} ({data.name}: {pluralize(len(data.segments), 'segment')}{documents})"
    dev_too = "" if results is dev else ", here and on dev"
    said = ABOUT.format(where=where, metric=metric_name(results.metric), dev_too=dev_too)
    return said + (CAUTION if results is dev else "")


def _in_brackets(interval: Interval | None) -> str:
    return "" if interval is None else f" ({100 * interval.low:.1f} to {100 * interval.high:.1f} %)"
