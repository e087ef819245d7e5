"""After the loop: the frontier as a table, the report, the artefacts that stay, and MLflow brought up to date."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from mlflow_tracking.mirror import Mirror
from orchestrator.ledger import Ledger, TrialRecord, read_ledger
from orchestrator.mirroring import mirror_results
from orchestrator.progress import spell_bytes
from orchestrator.report_labels import MINUS
from orchestrator.report_steps import short_label
from orchestrator.results import QUALITY, Intervals, Point, Results, collect, frontier_csv
from orchestrator.study import StudySpec
from search_spaces.candidate import Candidate
from workers.artefacts import DRAFT, MANIFEST, ArtefactStore
from workers.reading import DataSet

log = logging.getLogger(__name__)

ARTEFACTS = "artefacts"
TUNE_FOLDER = "tune"
# Columns of a terminal from which the frontier's table shows the worst pair too.
ROOMY = 95


@dataclass(frozen=True, slots=True)
class Found:
    """A finished or interrupted search: its results on dev and, where there is held-out data, on test."""

    folder: Path
    dev: Results
    test: Results | None
    interrupted: bool
    kept: Mapping[int, Path]
    mirrored: bool


def wrap_up(spec: StudySpec, data: Mapping[str, DataSet], console: Console) -> Found:
    """Everything that follows from the ledger, written anew each time."""
    ledger = read_ledger(spec.folder)
    dev = collect(ledger.on("dev"), Intervals(spec.folder, data["dev"], spec.seed))
    test = None
    if ledger.on("test"):
        test = collect(ledger.on("test"), Intervals(spec.folder, data["test"], spec.seed))
    (spec.folder / "frontier.csv").write_text(frontier_csv(dev.points), encoding="utf-8")
    if ledger.complete:
        keep_artefacts(spec, dev)
    kept = kept_folders(spec.folder, dev)
    files = _write_pages(spec, ledger, data, dev, test)
    print_frontier(console, dev, test)
    for record, failure in dev.failures:
        what = f"trial {record.number} ({record.candidate.describe()}) failed"
        console.print(f"{what}, {failure.reason} in {failure.stage}: {failure.message}", markup=False, highlight=False)
    mirrored = _mirror(spec, ledger, dev, kept, files)
    found = Found(spec.folder, dev, test, not ledger.complete, kept, mirrored)
    _say_where(console, spec, found)
    return found


def keep_artefacts(spec: StudySpec, dev: Results) -> None:
    """Give each artefact that stays a folder under `artefacts/`; remove the run's own store and Tune's state.

    Files are hard links where the file system allows it. What the store held can be made again; a store elsewhere,
    shared with other studies, is left as it is.
    """
    chosen = {"frontier": dev.frontier, "all": list(dev.points), "none": []}[spec.keep]
    target = spec.folder / ARTEFACTS
    for point in chosen:
        source = _stored(spec, point.record)
        if source is not None and point.record.number not in _by_number(target):
            _link(source, target / folder_name(point))
    for draft in target.glob(f"{DRAFT}*"):
        shutil.rmtree(draft)
    for number, folder in _by_number(target).items():
        if number not in {point.record.number for point in chosen}:
            shutil.rmtree(folder)
    if spec.store is None:
        shutil.rmtree(spec.store_folder, ignore_errors=True)
    if not any(failure.reason == "lost" for _, failure in dev.failures):
        shutil.rmtree(spec.folder / TUNE_FOLDER, ignore_errors=True)


def kept_folders(folder: Path, dev: Results) -> dict[int, Path]:
    """trial number -> the folder of its kept artefact."""
    there = _by_number(folder / ARTEFACTS)
    return {point.record.number: there[point.record.number] for point in dev.points if point.record.number in there}


def _by_number(target: Path) -> dict[int, Path]:
    """The kept folders by their trial's number, which names a trial for good; the rest of a name may be spelt anew."""
    folders = target.glob("trial-*-*") if target.is_dir() else ()
    return {int(number): folder for folder in folders if (number := folder.name.split("-")[1]).isdecimal()}


def folder_name(point: Point) -> str:
    """`trial-3-rtn-4-bit-g64`: what a person can tell apart in a listing."""
    return f"trial-{point.record.number}-{short_name(point.record.candidate)}"


def short_name(candidate: Candidate) -> str:
    """The steps in letters, digits and hyphens, which any file system and MLflow's model names take."""
    return re.sub("[^a-z0-9]+", "-", short_label(candidate).replace(MINUS, "minus ")).strip("-")


def print_frontier(console: Console, dev: Results, test: Results | None) -> None:
    """The frontier as a table that fits 80 columns; the interval is of the difference from the baseline."""
    table = Table(title="Quality-versus-size frontier", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("candidate", overflow="fold")
    roomy = console.width >= ROOMY
    last = (*(("worst pair",) if roomy else ()), *(("held-out",) if test else ()))
    for name in ("size", "ratio", "chrF", "95 % interval", *last):
        table.add_column(name, justify="right", no_wrap=True)
    held_out = {point.record.candidate.digest: point for point in test.points} if test else {}
    for point in [*(() if dev.baseline is None or dev.baseline.on_frontier else (dev.baseline,)), *dev.frontier]:
        judged = held_out.get(point.record.candidate.digest)
        row = [
            str(point.record.number), short_label(point.record.candidate), spell_bytes(point.bytes),
            f"{point.ratio:.2f}x", f"{point.quality:.2f}", _spell_interval(point),
        ]  # fmt: skip
        if roomy:
            row.append(f"{point.measurement.worst_pair(QUALITY)[1]:.2f}")
        if test is not None:
            row.append("" if judged is None else f"{judged.quality:.2f}")
        table.add_row(*row)
    console.print(table)


def _spell_interval(point: Point) -> str:
    if point.interval is None or not point.steps:
        return ""
    return f"{point.interval.low:+.2f} {point.interval.high:+.2f}"


def _write_pages(
    spec: StudySpec, ledger: Ledger, data: Mapping[str, DataSet], dev: Results, test: Results | None
) -> list[Path]:
    from orchestrator.report import write_picture, write_report

    if not dev.points:
        return [spec.folder / "frontier.csv"]
    title = f"{Path(spec.model).name}, space {spec.space}"
    report = write_report(spec.folder, title, dev, data["dev"], test, data.get("test"), ledger.header)
    picture = write_picture(spec.folder / "frontier.png", title, dev)
    return [spec.folder / "frontier.csv", report, picture]


def _stored(spec: StudySpec, record: TrialRecord) -> Path | None:
    if record.measurement is None or not record.measurement.artefact:
        return None
    artefact = ArtefactStore(spec.store_folder).find(record.measurement.artefact)
    return artefact.path if artefact else None


def _link(source: Path, target: Path) -> None:
    draft = target.with_name(f"{DRAFT}{target.name}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for file in sorted(source.iterdir()):
        if file.name == MANIFEST:
            continue
        try:
            (draft / file.name).hardlink_to(file)
        except OSError:
            shutil.copyfile(file, draft / file.name)
    draft.rename(target)


def _mirror(spec: StudySpec, ledger: Ledger, dev: Results, kept: dict[int, Path], files: list[Path]) -> bool:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        status = "FINISHED" if ledger.complete else "KILLED"
        mirror_results(connect(spec), spec.folder, ledger, dev, kept, status, files)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        log.warning("MLflow at %s can't be written to: %s", spec.mlflow_uri, error)
        return False
    return True


def connect(spec: StudySpec) -> Mirror:
    """The study's place in the MLflow store it names."""
    return Mirror(spec.mlflow_uri, str(spec.folder), spec.folder.parent / "mlflow-artifacts")


def _say_where(console: Console, spec: StudySpec, found: Found) -> None:
    folder = found.folder
    lines = [f"report    {folder / 'report.html'}", f"points    {folder / 'frontier.csv'}"]
    if found.kept:
        lines.append(f"models    {folder / ARTEFACTS} ({len(found.kept)})")
    if found.mirrored:
        lines.append(f"MLflow    {spec.mlflow_uri}   (mlflow ui --backend-store-uri {spec.mlflow_uri})")
    else:
        lines.append(f"MLflow    could not be written to; try again with: mtpareto mirror {folder}")
    if found.interrupted:
        lines.append(f"stopped before the end; go on with: mtpareto resume {folder}")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
