"""What a report says about its study: its facts, the conditions its numbers were taken under, and how it scored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from orchestrator.ledger.records import TrialRecord
from orchestrator.number_format import NONE, Unit, metric_name
from orchestrator.report.html_parts import cell, facts, head, table, text
from orchestrator.results.labels import signatures_of
from orchestrator.results.points import DEFAULT_QUALITY, Results
from orchestrator.statistics.telling_apart import ALPHA
from search_spaces.wording import pluralize
from workers.reading.segments import DataSet
from workers.scoring.metrics import BOOTSTRAP_SAMPLES, lines_by_pair

# Header keys that the heading already says, or that only the ledger's reader needs.
LEFT_OUT = frozenset({"kind", "schema"})


def study_facts(
    dev: Results,
    dev_data: DataSet,
    test: Results | None,
    test_data: DataSet | None,
    header: Mapping[str, Any],
    unit: Unit,
) -> str:
    """Model, space, trials, dates, data sets and what was found, as a list."""
    records = list(records_of([dev, *([test] if test else [])]))
    base = records[0].candidate.base if records else None
    rows = [
        ("Model", text(_model_text(base.name if base else header.get("model", NONE), header))),
        ("Search space", text(header.get("spec", {}).get("space", NONE))),
        ("Trials", text(trials_text(dev))),
        ("Measured", text(date_range(records))),
        ("Search scored on", text(data_text(dev_data))),
    ]
    if test is not None and test_data is not None:
        rows.append(("Held-out test", text(f"{data_text(test_data)}; {trials_text(test)}")))
    rows.append(("Quality", text(metric_name(dev.metric))))
    rows.append(("Frontier", text(_frontier_text(dev))))
    return facts(rows)


def _model_text(name: str, header: Mapping[str, Any]) -> str:
    """The model, and what it was quantized to before the study read it."""
    origin = header.get("conditions", {}).get("base model")
    return f"{name}, read from {origin}" if origin else name


def conditions_parts(results: Sequence[Results], data: Sequence[DataSet], header: Mapping[str, Any]) -> str:
    """The conditions of the measurements, the data sets, and the study's header behind a click."""
    measured = [(name, text(value)) for name, value in shared_conditions(results)]
    study = [(name, text(value)) for name, value in flatten(header)]
    sets = [(dataset.name, text(data_details(dataset))) for dataset in data]
    parts = (("Measured under", measured), ("Data", sets))
    shown = "".join(f"<h3>{text(name)}</h3>{facts(rows, 'conditions')}" for name, rows in parts if rows)
    inside = facts(study, "conditions")
    return shown + (f"<details><summary>The study, key by key</summary>{inside}</details>" if study else "")


def shared_conditions(results: Sequence[Results]) -> list[tuple[str, str]]:
    """Every condition of every measurement; where measurements differ, each value with how many had it."""
    counts: dict[str, dict[str, int]] = {}
    total = 0
    for point in (point for split in results for point in split.points):
        total += 1
        for name, value in point.measurement.conditions.items():
            by_value = counts.setdefault(name, {})
            by_value[value] = by_value.get(value, 0) + 1
    return [(name, _values(by_value, total)) for name, by_value in counts.items()]


def flatten(header: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested header as (dotted name, value) rows."""
    rows: list[tuple[str, str]] = []
    for name, value in header.items():
        if not prefix and name in LEFT_OUT:
            continue
        if isinstance(value, Mapping):
            rows += flatten(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return rows


def interval_note(data: Sequence[DataSet], metric: str = DEFAULT_QUALITY) -> str:
    """What the intervals are, and over how many documents they were taken."""
    documents = "; ".join(f"{dataset.name}: {_documents_text(dataset)}" for dataset in data)
    note = (
        f"Each interval is a 95 % paired bootstrap interval of the candidate's {metric_name(metric)} minus the "
        f"baseline's, as the mean over language pairs. Documents are drawn with replacement within each pair, "
        f"{BOOTSTRAP_SAMPLES:,} times and alike for all systems, so a document's segments stay together ({documents}), "
        "and one that several pairs share is drawn in all of them alike. "
        "Where an interval holds 0, this data does not tell the candidate from the baseline. An interval says how "
        "scores vary from document to document; it says nothing of the luck of the best among many candidates, which "
        "is what the held-out test is for. What is said of points beside each other and of losses is held to "
        f"{ALPHA:.0%} for all statements of its kind together. The words behind a click on a candidate say how "
        "likely people are to see a difference of that size between two systems' scores (Kocmi et al. 2024, "
        "https://aclanthology.org/2024.acl-long.110)."
    )
    single = sorted({pair for dataset in data for pair, count in documents_by_pair(dataset).items() if count == 1})
    if single:
        note += f" With one document only ({', '.join(single)}), a pair's segments are drawn one by one instead."
    return f'<p class="about">{text(note)}</p>'


def documents_by_pair(dataset: DataSet) -> dict[str, int]:
    """pair -> the number of documents that its segments come from."""
    return {
        pair: len({dataset.segments[line].doc_id for line in at})
        for pair, at in lines_by_pair(dataset.segments).items()
    }


def records_of(splits: Iterable[Results]) -> Iterable[TrialRecord]:
    """The records of every trial, well ended or failed."""
    for results in splits:
        yield from (point.record for point in results.points)
        yield from (record for record, _ in results.failures)
        yield from (trial.record for trial in results.dropped)


def trials_text(results: Results) -> str:
    """`14 trials: 9 measured in full, 3 dropped early, 2 failed`; without a race, `12 ended well, 2 failed`."""
    well, failed, dropped = len(results.points), len(results.failures), len(results.dropped)
    ended = f"{well} measured in full, {dropped} dropped early" if dropped else f"{well} ended well"
    return f"{pluralize(well + failed + dropped, 'trial')}: {ended}, {failed} failed"


def date_range(records: Sequence[TrialRecord]) -> str:
    """The first start to the last end, in UTC, to the minute."""
    if not records:
        return NONE
    first = min(datetime.fromisoformat(record.started) for record in records)
    last = max(datetime.fromisoformat(record.ended) for record in records)
    end = f"{last:%H:%M}" if first.date() == last.date() else f"{last:%Y-%m-%d %H:%M}"
    return f"{first:%Y-%m-%d %H:%M} to {end} UTC"


def data_text(dataset: DataSet) -> str:
    """`test.jsonl: 252 segments, en-de, en-ja, en-zh`; more than six pairs are counted."""
    pairs = ", ".join(dataset.pairs) if len(dataset.pairs) <= 6 else pluralize(len(dataset.pairs), "pair")
    return f"{dataset.name}: {pluralize(len(dataset.segments), 'segment')}, {pairs}"


def data_details(dataset: DataSet) -> str:
    """A data set's format, checksum, pairs, and all that was not taken from the file."""
    left_out = [f"{count:,} left out ({reason})" for reason, count in dataset.left_out]
    skipped = [f"{pluralize(len(dataset.bad_rows), 'bad row')} skipped"] if dataset.bad_rows else []
    first = [dataset.format, f"{pluralize(len(dataset.segments), 'segment')}", f"pairs {', '.join(dataset.pairs)}"]
    return "; ".join([*first, *left_out, *skipped, f"sha256 {dataset.digest}"])


def _frontier_text(dev: Results) -> str:
    """`5 points of 12, 2 more not told apart from one of them; 1 kept off it`."""
    said = f"{pluralize(len(dev.frontier), 'point')} of {len(dev.points)}"
    said += f", {len(dev.ties)} more not told apart from one of them" if dev.ties else ""
    return said + (f"; {len(dev.kept_off)} kept off it" if dev.kept_off else "")


def _documents_text(dataset: DataSet) -> str:
    counts = documents_by_pair(dataset)
    low, high = min(counts.values()), max(counts.values())
    return f"{pluralize(low, 'document')} a pair" if low == high else f"{low} to {high} documents a pair"


def _values(by_value: Mapping[str, int], total: int) -> str:
    if len(by_value) == 1 and sum(by_value.values()) == total:
        return next(iter(by_value))
    return "; ".join(f"{value} ({count} of {total} measurements)" for value, count in by_value.items())


def signatures_table(splits: Sequence[Results]) -> str:
    """The distinct signatures: per metric, the pairs that share one."""
    rows = [
        f"<tr>{cell(text(metric))}{cell(text(names))}{cell(f'<code>{text(signature)}</code>')}</tr>"
        for metric, names, signature in signatures_of(splits)
    ]
    return table(head([("Metric", ""), ("Pairs", ""), ("Signature", "")]), rows, "signatures")
