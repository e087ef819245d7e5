"""A page of results: Markdown for people, JSON with every figure for programs. Nothing in either is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from orchestrator.number_format import metric_name
from orchestrator.report.markdown.content import PageContent
from orchestrator.report.markdown.differences import differences_parts
from orchestrator.report.markdown.evidence import controls_parts, negative_parts, published_table, references_table
from orchestrator.report.markdown.figure import Figure
from orchestrator.report.markdown.figures import ESTIMATES, controls_json, figures, points_json
from orchestrator.report.markdown.frontier import (
    bytes_table,
    cost_table,
    pairs_table,
    points_table,
    predictions_table,
)
from orchestrator.report.markdown.references import references
from orchestrator.report.markdown.syntax import code, escape, fence, section, table
from orchestrator.report.sections.conditions import data_details, shared_conditions
from orchestrator.results.labels import signatures_of, third_note
from orchestrator.results.points import Results
from orchestrator.results.statement import flattered_said
from orchestrator.results.step_labels import short_label
from search_spaces.candidate import is_of_content
from workers.reading.segments import DataSet
from workers.scoring.metrics import BOOTSTRAP_SAMPLES

COST_NOTE = (
    "Of each point its own trials: search, held-out test and timing. What a trial found made already, such as steps or "
    "statistics that another made, is in that one's."
)
REFERENCES_NOTE = "One quantizer alone, without a search or a training, as it is used out of the box."
PUBLISHED_NOTE = (
    "Other models and other data, some by other metrics: they say where the field is, and compare with nothing here. "
    "The picture has those in the metric of the page, hollow, at the same ratio and share of this study's baseline."
)
BYTES_NOTE = "By the names of the tensors in each model's files; of those with * predicted from the base's."


def page_markdown(content: PageContent) -> str:
    """The page. Its picture is `NAME.png` beside it."""
    found = figures(content)
    quality = metric_name(content.dev.metric)
    differ = (
        [] if content.differences is None else differences_parts(content.differences, _label(content), content.quotes)
    )
    shown = [
        f"# {escape(content.title)}",
        _origin(content),
        f"![{quality} against size](<{content.name}.png>)",
        section("In figures", _figures_table(found), ESTIMATES),
        section("Points", _points_note(content), points_table(content)),
        section("By language pair", f"{quality} on {content.where}, and the share that is kept.", pairs_table(content))
        if pairs_table(content)
        else "",
        section("Is it the compression or the training?", *controls_parts(content)),
        section("What is said differently", *differ),
        _if(bytes_table(content), "Where the bytes are", BYTES_NOTE),
        section("What it cost", COST_NOTE, cost_table(content)),
        _if(predictions_table(content), "Predicted and measured"),
        _if(references_table(content), "Reference marks", REFERENCES_NOTE),
        _if(published_table(content), "Published points", PUBLISHED_NOTE),
        section("What did not work", *negative_parts(content)),
        section("Training data and test data", escape(content.contamination.said)),
        section("Conditions", _conditions(content)),
        section("Make it again", _again(content)),
    ]
    return "\n\n".join(part for part in shown if part) + "\n"


def page_json(content: PageContent) -> str:
    """Every figure with its conditions: `figures`, `definitions`, `reasons` (why a figure is null), `points`,
    `control_arms`, `conditions`, `data`, `model`, `command` and others."""
    found = figures(content)
    base, zero = content.ledger.header["base"], content.zero_shot
    record = {
        "title": content.title,
        "model": {
            "name": _name(base["name"], base["revision"]),
            "revision": base["revision"],
            "bytes": base["bytes"],
            "note": content.note,
            "made_from": None if zero is None else _name(zero.name, zero.revision),
            "made_from_revision": None if zero is None else zero.revision,
            "made_by": None if zero is None else zero.made_by,
        },
        "figures": {name: one.value for name, one in found.items()},
        "definitions": {name: one.about for name, one in found.items()} | {"shares": ESTIMATES},
        "reasons": {name: one.why for name, one in found.items() if one.value is None},
        "judged_on": "test" if content.of_test else "dev",
        "quality": content.dev.metric,
        "points": points_json(content),
        "control_arms": controls_json(content),
        "references": [point.record.number for point in references(content)],
        "published": [asdict(one) for one in content.published],
        "failed": len(content.dev.failures),
        "dropped_early": len(content.dev.dropped),
        "kept_off": len(content.dev.kept_off),
        "left_out_of_training": content.contamination.left_out,
        "conditions": dict(shared_conditions(_splits(content))) | content.ledger.header["conditions"],
        "data": {dataset.name: data_details(dataset) for dataset in _sets(content)},
        "signatures": [
            dict(zip(("metric", "pairs", "signature"), one, strict=True)) for one in signatures_of(_splits(content))
        ],
        "command": content.command,
        "study": content.study_file,
    }
    return _laid_out(record)


def _laid_out(record: Mapping[str, object]) -> str:
    """The record as JSON: a line for each entry of what it holds, such as a point."""

    def text(value: object) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    lines = []
    for key, value in record.items():
        if isinstance(value, Mapping) and value:
            held = ",\n".join(f"    {text(name)}: {text(one)}" for name, one in value.items())
            lines.append(f"  {text(key)}: {{\n{held}\n  }}")
        elif isinstance(value, list) and value:
            held = ",\n".join(f"    {text(one)}" for one in value)
            lines.append(f"  {text(key)}: [\n{held}\n  ]")
        else:
            lines.append(f"  {text(key)}: {text(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _origin(content: PageContent) -> str:
    base, zero = content.ledger.header["base"], content.zero_shot
    baseline = content.dev.baseline
    size = f"{base['bytes']:,} bytes" + (
        f", {baseline.measurement.footprint.parameters:,} parameters" if baseline is not None else ""
    )
    lines = [f"- Model: {escape(_name(base['name'], base['revision']))}, {escape(base['revision'])}, {size}"]
    if zero is not None:
        made_of = f"{_name(zero.name, zero.revision)}, {zero.revision}"
        lines.append(f"- Made by {escape(zero.made_by)} from {escape(made_of)}")
    if content.note:
        lines.append(f"- {escape(content.note)}")
    pairs = ", ".join(content.dev_data.pairs)
    lines.append(f"- Language pairs: {escape(pairs)}")
    lines.append(f"- Shares are of {escape(content.where)}")
    return "\n".join(lines)


def _name(name: str, revision: str) -> str:
    """A folder's own name, whose path says nothing elsewhere; a hub id as it is."""
    return Path(name).name if is_of_content(revision) else name


def _label(content: PageContent) -> str:
    number = content.differences.number if content.differences is not None else -1
    return next(
        (short_label(one.record.candidate) for one in content.dev.points if one.record.number == number), "baseline"
    )


def _figures_table(found: dict[str, Figure]) -> str:
    rows = [
        [code(name), _value(one.value) if one.value is not None else f"none: {one.why}", one.about]
        for name, one in found.items()
    ]
    return table([("Figure", True), ("Value", True), ("What it is", True)], rows)


def _value(value: float | int) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1 else f"{value:,.2f}"


def _points_note(content: PageContent) -> str:
    said = flattered_said(content.dev)
    flattered = "" if said is None else f" {said}"
    return (
        f"Scores are of {content.where}, the mean over language pairs. Intervals are 95 %, by a paired bootstrap over "
        f"documents ({BOOTSTRAP_SAMPLES:,} samples). A point of the frontier is shown to be better than every smaller "
        "one of it; of two that are not told apart take the smaller." + third_note(content.dev.third) + flattered
    )


def _if(body: str, heading: str, note: str = "") -> str:
    return section(heading, note, body) if body else ""


def _splits(content: PageContent) -> list[Results]:
    return [content.dev, *([content.test] if content.test is not None else [])]


def _sets(content: PageContent) -> list[DataSet]:
    return [content.dev_data, *([content.test_data] if content.test_data is not None else [])]


def _conditions(content: PageContent) -> str:
    rows = [[f"data: {one.name}", data_details(one)] for one in _sets(content)]
    rows += [[name, value] for name, value in shared_conditions(_splits(content))]
    rows += [[f"study: {name}", str(value)] for name, value in content.ledger.header["conditions"].items()]
    rows += [[f"{metric_name(metric)} ({pairs})", line] for metric, pairs, line in signatures_of(_splits(content))]
    return table([("Condition", True), ("Value", True)], rows)


def _again(content: PageContent) -> str:
    return "\n\n".join(
        [
            fence(f"mtpareto search study.yaml\n{content.command}", "sh"),
            "`study.yaml`, with its files by their names; the digests above say which they are:",
            fence(content.study_file, "yaml"),
        ]
    )
