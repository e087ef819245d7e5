"""The README of an exported model: what it was made from and how, how large and how good it is, and how to run it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.commands.exporting.formats import ENGINES, GGUF, IN_WORDS, KEPT, MERGED, PACKED
from orchestrator.finish.kept_models import KeptModel
from orchestrator.finish.model_card import listed_steps
from orchestrator.ledger.lines import StudyHeader
from orchestrator.number_format import interval_text, metric_name, ratio_text, spell_bytes
from orchestrator.results.points import Point
from workers.languages.codes import language_name, split_pair
from workers.plan.conditions import installed_versions
from workers.reading.segments import name_files

HUB = "https://huggingface.co"
# What hubs call a licence that has no identifier of theirs.
OTHER = "other"
# Form -> what is known of its weights.
CHECKED = {
    GGUF: "Each weight was read back by the package gguf and compared with that model's.",
    MERGED: "Its weights are decoded and rounded to bfloat16 once.",
    PACKED: "Each packed weight was read back and compared with that model's.",
}


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote."""

    form: str
    """One of FORMATS."""
    bytes: int
    """Of the model's files."""
    notes: tuple[str, ...]
    """Where it is not the kept model as it is."""
    needed: tuple[str, ...]
    """The lines of requirements.txt; none where other software runs it."""
    record: Mapping[str, Any]
    """How it is asked, as prompt.json has it."""


def model_card(found: KeptModel, pairs: Sequence[str], exported: Exported) -> str:
    """The card as Markdown, with the metadata that model hubs read in front.

    found: its points with their intervals, where the study's data are there. pairs: that the export can be asked for.
    """
    size = exported.bytes
    point = found.point
    base, uncompressed = point.record.candidate.base, found.results.baseline
    # A folder's path says nothing to who has the export.
    local = is_local(base.name)
    name = Path(base.name).name if local else base.name
    languages = sorted({code for pair in pairs for code in split_pair(pair)})
    license_of_base = base_license(Path(base.name))
    front = [
        "---",
        "pipeline_tag: translation",
        f"library_name: {'gguf' if exported.form == GGUF else 'transformers'}",
        *_license_lines(license_of_base),
        "language:",
        *(f"- {code}" for code in languages),
        *([] if local else [f"base_model: {name}"]),
        "---",
    ]
    steps = listed_steps(point.record.candidate)
    body = [
        f"# {Path(name).name}, compressed",
        "",
        f"Made from {name} (revision {base.revision}) by mtpareto, in this order:",
        "",
        *(steps or ["Nothing: this is the uncompressed model."]),
        "",
        *([f"{name} was {origin}.", ""] if (origin := origin_in(found.ledger.header)) else []),
        f"- Size: {spell_bytes(size)} ({size:,} bytes) of files needed to run"
        + (
            f", {ratio_text(uncompressed.bytes / size)} smaller than the uncompressed {uncompressed.bytes:,}."
            if uncompressed
            else "."
        ),
        f"- Translates {', '.join(_pair_in_words(pair, found.asking.pairs) for pair in pairs)}.",
        f"- Base model's licence: {license_of_base or _where_license(base.name)}.",
        "",
        *_form(exported, point),
        *_scores(found, point),
        *(
            _how_to_run_gguf(found, pairs[0], exported.record)
            if exported.form == GGUF
            else _how_to_run(pairs, exported.form)
        ),
        "## Made with",
        "",
        *([f"The versions in use when it was exported: {', '.join(exported.needed)}."] if exported.needed else []),
        f"mtpareto "
        f"{installed_versions(['mtpareto']).get('mtpareto', 'from a checkout')}; the study began "
        f"{found.ledger.header['conditions'].get('started', 'at a time that is not known')}.",
        "",
    ]
    return "\n".join([*front, "", *body])


def _form(exported: Exported, point: Point) -> list[str]:
    """What the form changed, and what it was not run with."""
    if exported.form == KEPT:
        return []
    lines = [
        f"## As {exported.form}",
        "",
        f"The model that was measured has {point.bytes:,} bytes; this is the same in another form: "
        f"{IN_WORDS[exported.form]}. {CHECKED[exported.form]}",
        "",
        *(f"- {note[0].upper()}{note[1:]}." for note in exported.notes),
        *([""] if exported.notes else []),
    ]
    if (engine := ENGINES.get(exported.form)) is not None:
        lines += [
            f"It was **not run with {engine}**: the scores below are of the model that was measured, by mtpareto. "
            f"{engine} rounds otherwise, so translate a few segments and score them before you rely on it.",
            "",
        ]
    return lines


def origin_in(header: StudyHeader) -> str | None:
    """What the study's model was before it was read, by the ledger: a GGUF file, with the types of its tensors."""
    return header["conditions"].get("base model")


def is_local(name: str) -> bool:
    """Whether a base model is a folder, and no hub id."""
    return Path(name).is_absolute() or Path(name).is_dir()


def base_license(folder: Path) -> str | None:
    """What the README of a base model's folder names as its licence, in the metadata that model hubs read: its
    identifier, or its name where that is `other`; None where there is none."""
    file = folder / "README.md"
    if not file.is_file():
        return None
    front = re.match(r"---\n(.*?)\n---\n", file.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    if front is None:
        return None
    fields = dict(re.findall(r"^(license|license_name):[ \t]*[\"']?([^\n\"']*\S)", front[1], re.MULTILINE))
    named = fields.get("license")
    return fields.get("license_name", named) if named == OTHER else named


def _license_lines(named: str | None) -> list[str]:
    """The licence in the metadata: an identifier has neither space nor capital."""
    if named is None or re.fullmatch(r"[a-z0-9.+-]+", named):
        return [f"license: {named or OTHER}"]
    return [f"license: {OTHER}", f'license_name: "{named}"']


def _where_license(name: str) -> str:
    if is_local(name):
        return "not known here; see where the base model came from"
    return f"not known here; see {HUB}/{name}"


def _scores(found: KeptModel, point: Point) -> list[str]:
    lines = ["## Scores", ""]
    spec, data = found.spec, found.ledger.header["data"]
    splits = [("Selected on", spec.data_files, "dev", point, found.results.baseline)]
    if point.held_out is not None and spec.test is not None:
        base = found.results.baseline
        splits.insert(0, ("Held-out", spec.test_files, "test", point.held_out, base.held_out if base else None))
    for title, files, split, scored, base in splits:
        digest = data.get(split, "")[:16]
        lines += [f"{title}: {name_files(files)}, sha256 {digest}, {scored.measurement.segments:,} segments.", ""]
        lines += [*_table(scored, base), ""]
    lines += [
        "The interval is of this model minus the uncompressed one, 95 %, by a paired bootstrap over documents. The "
        "data that select say too much good of what they selected; held-out data do not.",
        "",
        f"Decoding: {point.measurement.conditions.get('decoding', 'not known')}, on "
        f"{point.measurement.conditions.get('device', 'a device that is not known')}, by mtpareto's decoder. "
        "transformers' `generate` rounds otherwise on a GPU, so single translations may differ.",
        "",
    ]
    return lines


def _table(scored: Point, base: Point | None) -> list[str]:
    """The metrics of one split, a row each, the mean over pairs first."""
    pairs = sorted(next(iter(scored.measurement.scores.values())))
    shown = pairs if len(pairs) > 1 else []
    rows = [
        f"| Metric | {' | '.join(['mean' if shown else pairs[0], *shown])} | uncompressed | 95 % interval |",
        f"|---|{'---|' * (len(shown) + 3)}",
    ]
    intervals = dict(scored.beside) | ({} if scored.interval is None else {scored.metric: scored.interval})
    for metric, by_pair in scored.measurement.scores.items():
        numbers = [scored.measurement.overall(metric), *(by_pair[pair].value for pair in shown)]
        other = base.measurement.scores.get(metric) if base else None
        usual = f"{base.measurement.overall(metric):.2f}" if base and other else ""
        interval = interval_text(intervals[metric]) if metric in intervals else ""
        rows.append(
            f"| {metric_name(metric)} | {' | '.join(f'{number:.2f}' for number in numbers)} | {usual} | {interval} |"
        )
    return rows


def _how_to_run_gguf(found: KeptModel, pair: str, record: Mapping[str, Any]) -> list[str]:
    request, most = record["requests"][pair], found.asking.decoding.max_new_tokens
    prompt = json.dumps(f"{request['before']}SOURCE{request['after']}", ensure_ascii=False)
    first = "begins with the tokenizer's first token" if record["special_tokens"] else "has all its special tokens"
    return [
        "## Run it",
        "",
        f"A line of {pair} is asked for by this prompt, in JSON's spelling, with SOURCE as the line; it {first}:",
        "",
        f"```json\n{prompt}\n```",
        "",
        "```sh",
        "llama-server -m model.gguf --temp 0",
        f'curl http://127.0.0.1:8080/completion --json \'{{"prompt": PROMPT, "temperature": 0, "n_predict": {most}}}\'',
        "```",
        "",
        "`prompt.json` has those of all pairs as what stands before and behind a source, and the length limit.",
        "",
    ]


def _how_to_run(pairs: Sequence[str], form: str) -> list[str]:
    served = [
        "`vllm serve .` starts vLLM with the folder; `prompt.json` has what stands before and behind a source.",
        "",
    ]
    return [
        "## Run it",
        "",
        "```sh",
        "./setup.sh     # checks SHA256SUMS, makes .venv with requirements.txt",
        f"./run.sh --lang-pair {pairs[0]} --batch-size 8 --input IN --output OUT",
        "```",
        "",
        "One line of OUT for each line of IN. Without `--input` and `--output` it reads the standard input and writes "
        "the standard output. Codes have two or three letters. `prompt.json` has the length limit, the beams and what "
        "stands before and behind a source.",
        "",
        "It runs on the first GPU, in bfloat16, else on the CPU, in float32. `translate.py` needs none of mtpareto.",
        "",
        *(served if form == PACKED else []),
    ]


def _pair_in_words(pair: str, measured: Sequence[str]) -> str:
    source, target = split_pair(pair)
    known = pair if pair in measured else f"{pair}, not measured"
    return f"{language_name(source)} to {language_name(target)} ({known})"
