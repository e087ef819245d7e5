"""`mtpareto page`: a run's results as Markdown, JSON and a picture, from its ledger; no trial is run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from orchestrator.finish.byte_parts import byte_parts
from orchestrator.finish.run_folder import read_data, refuse_changed_data, reopen
from orchestrator.finish.title import made_baseline, title_of
from orchestrator.finish.wrap_up import kept_folders, read_controls, read_results
from orchestrator.ledger.names import BASELINE, LEDGER, SYNTHETIC
from orchestrator.ledger.records import Ledger, read_ledger
from orchestrator.report.markdown.content import Contamination, PageContent, ZeroShot
from orchestrator.report.markdown.differences import Differences, differences
from orchestrator.report.markdown.page import page_json, page_markdown
from orchestrator.report.picture import write_picture
from orchestrator.report.published.points_file import POINTS_FILE, points_of_run, read_published_points
from orchestrator.results.answers import candidates, judged_by, kept_on_mean
from orchestrator.results.points import Results
from orchestrator.results.step_labels import short_label
from orchestrator.study.spec import StudySpec
from orchestrator.study.training import read_training
from search_spaces.candidate import is_of_content
from search_spaces.errors import StudyError, UserError
from search_spaces.methods.registry import METHODS
from search_spaces.wording import pluralize
from workers.reading.segments import DataSet
from workers.runtime.atomic_files import write_through_draft, write_whole

MARKDOWN, JSON, PICTURE = ".md", ".json", ".png"
# Keys of a study that say where it ran, and nothing of its results.
PLACES = ("store", "store_limit", "tracking_uri", "experiment", "address")
FILES = ("data", "test", "references", "calibration", "calibration_text", "comet_model", "model", "published")
SHARE = 0.99


def write_page(
    folder: Path,
    to: Path,
    note: str = "",
    published: Path | None = None,
    title: str = "",
    *,
    sentences: bool = True,
) -> list[Path]:
    """Write `TO.md`, `TO.json` and `TO.png`, each whole or not at all; returns their paths.

    note: what is said of the model. published: a CSV file of other people's points; without it those of the run are
    taken. title: the page's heading. sentences: whether segments that differ are quoted, where the data's licence and
    the page's readers allow it, or named by their ids. Raises StudyError for a folder without a run, for one in which
    nothing was measured, and for a file that can't be written.
    """
    if to.suffix in (MARKDOWN, JSON, PICTURE):
        to = to.with_suffix("")
    if to.is_dir() or not to.name:
        raise StudyError(f"--to {to} is a folder; name the pages in it without a suffix, such as {to / 'alma'}")
    content = read_content(folder, to, note, published, title, sentences=sentences)
    texts = {MARKDOWN: page_markdown(content), JSON: page_json(content)}
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        for suffix, text in texts.items():
            write_whole(to.with_name(f"{to.name}{suffix}"), text)
        picture = to.with_name(f"{to.name}{PICTURE}")
        with write_through_draft(picture) as draft:
            of = "held-out test" if content.of_test else "dev"
            write_picture(draft, f"{content.title}: {of}", content.judged, content.published)
    except OSError as error:
        raise StudyError(f"{to} can't be written: {error.strerror or error}; choose another --to") from error
    return [to.with_name(f"{to.name}{suffix}") for suffix in (*texts, PICTURE)]


def read_content(
    folder: Path, to: Path, note: str = "", published: Path | None = None, title: str = "", *, sentences: bool = True
) -> PageContent:
    """All that a run's page is made of. to: its path without a suffix. Raises as `write_page` does."""
    points = read_published_points(published) if published is not None else points_of_run(folder)
    ledger, spec = reopen(folder)
    data = read_data(spec)
    refuse_changed_data(ledger, data, spec.folder)
    dev, test = read_results(ledger, spec, data)
    if not dev.points:
        raise StudyError(f"no trial of {folder} was measured in full yet, so there is no page")
    kept = kept_folders(spec.folder, dev)
    judged = judged_by(dev, test)
    of_test = judged is test
    # The run has points that its study does not name.
    added = Path(POINTS_FILE) if points and spec.published is None else None
    return PageContent(
        name=to.name,
        title=title or title_of(spec),
        note=note,
        command=_command(folder, to, note, published or added, title, sentences),
        study_file=study_file(ledger, spec),
        folder=spec.folder,
        ledger=ledger,
        dev=dev,
        dev_data=data["dev"],
        test=test,
        test_data=data.get("test"),
        controls=read_controls(ledger, spec, data, dev, test),
        parts=byte_parts(spec, dev, kept),
        zero_shot=_zero_shot(spec, "test" if of_test else "dev"),
        contamination=contamination(ledger, spec, data),
        published=points,
        differences=_differences(spec.folder, dev, judged, data["test" if of_test else "dev"]),
        quotes=sentences,
    )


def study_file(ledger: Ledger, spec: StudySpec) -> str:
    """The study as YAML: what differs from the defaults, files by their names, and no place of this machine."""
    record = spec.to_json()
    usual = {field.name: field.default for field in fields(StudySpec)}
    said: dict[str, Any] = {
        name: value
        for name, value in record.items()
        if name not in PLACES and value not in (None, [], {}) and _plain(usual.get(name)) != value
    }
    said |= {name: _names(said[name]) for name in FILES if name in said}
    for name in {"anchors", "reference_points"} & set(said):
        said[name] = [[_brief(step) for step in chain] for chain in said[name]]
    if "start" in said:
        said["start"] = [_brief(step) for step in said["start"]]
    base, made = ledger.header["base"], made_baseline(spec)
    said["model"] = (
        _model(base["name"], base["revision"]) if made is None else _model(made.base.name, made.base.revision)
    )
    if made is not None:
        said["baseline"] = [_brief(step) for step in made.to_json()["steps"]]
    said["out"] = f"runs/{spec.folder.name}"
    if "training" in said:
        said["training"] = [{**one, "file": Path(one["file"]).name} for one in said["training"]]
    return yaml.safe_dump(said, sort_keys=False, allow_unicode=True, width=100)


def _names(files: str | Sequence[str]) -> str | list[str]:
    """Files by their names alone; a hub id stays as it is."""
    if not isinstance(files, str):
        return [str(_from_here(Path(file))) for file in files]
    return str(_from_here(Path(files)))


def _brief(step: Mapping[str, Any]) -> dict[str, Any]:
    """A step with those of its parameters that are not at their defaults."""
    usual = {field.name: field.default for field in fields(METHODS[step["method"]])}
    return {name: value for name, value in step.items() if name == "method" or usual.get(name, ...) != value}


def _model(name: str, revision: str) -> str:
    return Path(name).name if is_of_content(revision) else name


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def contamination(ledger: Ledger, spec: StudySpec, data: Mapping[str, DataSet]) -> Contamination:
    """Whether the training data hold a source that the study measures on, looked for again in the files themselves."""
    if not spec.training:
        return Contamination("The study has no training data.", 0)
    files = [Path(source.file).name for source in spec.training] + [SYNTHETIC] * (spec.synthetic_pairs > 0)
    names = ", ".join(files)
    rule = "A search refuses to begin where a source or a target of the training data is a source that it measures on"
    try:
        found = read_training(spec, data)
    except UserError as error:
        return Contamination(f"{rule}. This was not looked for again in {names}: {error}", None)
    if found is None or found.identity() != ledger.header.get("training"):
        return Contamination(f"{rule}. {names} has changed since the study began, so this says nothing of it.", None)
    left_out = len(found.data.measured)
    went = f"{pluralize(left_out, 'such text')} left out of the training" if left_out else "no such text is in it"
    return Contamination(f"{rule}. Looked for again in {names} ({found.data.digest}): {went}.", left_out)


def _zero_shot(spec: StudySpec, split: str) -> ZeroShot | None:
    """The model that the study's baseline was made of; None where it made none."""
    first = spec.folder / BASELINE
    if not (first / LEDGER).is_file():
        return None
    ledger = read_ledger(first)
    trials = ledger.on(split)
    before = next((one.measurement for one in trials if not one.candidate.steps), None)
    made = next((one.candidate for one in ledger.on("dev") if one.candidate.steps), None)
    base = ledger.header["base"]
    scores = {} if before is None else {metric: before.overall(metric) for metric in before.scores}
    return ZeroShot(base["name"], base["revision"], "" if made is None else short_label(made), scores)


def _differences(folder: Path, dev: Results, judged: Results, data: DataSet) -> Differences | None:
    """Of the smallest model that keeps `SHARE` on the mean, else of the one that keeps most."""
    standing = candidates(dev, judged, kept_on_mean)
    if judged.baseline is None or not standing:
        return None
    enough = [one for one in standing if one.share >= SHARE]
    chosen = min(enough, key=lambda one: one.point.bytes) if enough else max(standing, key=lambda one: one.share)
    return differences(folder, data.segments, judged.baseline, chosen.point, chosen.number)


def _command(folder: Path, to: Path, note: str, published: Path | None, title: str, sentences: bool) -> str:
    """The command, with no path of this machine."""
    said = ["mtpareto", "page", f"runs/{folder.resolve().name}", "--to", str(_from_here(to))]
    said += ["--note", note] if note else []
    said += ["--published", str(_from_here(published))] if published is not None else []
    said += ["--title", title] if title else []
    said += [] if sentences else ["--no-sentences"]
    return shlex.join(said)


def _from_here(path: Path) -> Path:
    return Path(path.name) if path.is_absolute() else path
