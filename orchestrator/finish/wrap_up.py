"""After the loop: the frontier as a table, the report, the artefacts that stay, and MLflow brought up to date."""

from __future__ import annotations

import logging
import re
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from mlflow_tracking.mirror import EXPERIMENT, Mirror
from mlflow_tracking.registry import KeptModel
from orchestrator.finish.asking import write_prompts
from orchestrator.finish.byte_parts import byte_parts
from orchestrator.finish.mirroring import make_models_loadable, mirror_results, mlflow_troubles, spell_trouble
from orchestrator.finish.title import title_of
from orchestrator.ledger.records import Ledger, TrialRecord, read_ledger
from orchestrator.ledger.rescored import read_rescored, with_rescored
from orchestrator.number_format import spell_bytes
from orchestrator.report.published.points_file import points_of_run
from orchestrator.results.control import ControlArms, control_arms
from orchestrator.results.intervals import Intervals, Known
from orchestrator.results.points import Results, collect, judge_on_test, quality_of
from orchestrator.results.statement import statement, with_folder
from orchestrator.results.step_labels import short_label
from orchestrator.results.tables.csv_table import frontier_csv
from orchestrator.results.tables.terminal_table import control_lines, print_frontier, print_sentence
from orchestrator.study.spec import StudySpec
from search_spaces.candidate import Candidate
from search_spaces.outcome import Failure, Outcome, Speed
from search_spaces.wording import MINUS
from workers.evaluation.attempt import or_else
from workers.plan.evaluation_plan import SPEED_SPLIT
from workers.reading.segments import DataSet
from workers.runtime.artefact_store import MANIFEST, ArtefactStore
from workers.runtime.atomic_files import DRAFT, write_through_draft

log = logging.getLogger(__name__)

ARTEFACTS = "artefacts"
TUNE_FOLDER = "tune"

Done = TypeVar("Done")


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A finished or interrupted search: its results on dev and, where there is held-out data, on test."""

    folder: Path
    dev: Results
    test: Results | None
    interrupted: bool
    kept: Mapping[int, Path]
    mirrored: bool


def wrap_up(
    spec: StudySpec,
    data: Mapping[str, DataSet],
    console: Console,
    running: bool = False,
    again: bool = False,
    known: Known | None = None,
    mlflow_seconds: float | None = None,
    loadable: bool = False,
) -> SearchResult:
    """Everything that follows from the ledger, written anew each time.

    running: a search goes on in the folder, and needs its store. again: no search has ended just now, so no model that
    was kept is given up. known: bootstrap samples that were drawn already. mlflow_seconds: what MLflow has not taken in
    by then stays due. loadable: kept models get what `mlflow.pyfunc` loads them by, which takes seconds, for it needs
    their tokenizers.

    What was found is said first; then each page fails on its own, in a line.
    """
    ledger = read_ledger(spec.folder)
    dev, test = read_results(ledger, spec, data, known)
    print_frontier(console, dev, test)
    for line in _troubles(ledger, dev):
        print_sentence(console, line)
    if ledger.complete and not running:
        _each(console, spec.folder, "models", lambda: keep_artefacts(spec, dev, again))
    kept = kept_folders(spec.folder, dev)
    if not running:
        _each(console, spec.folder, "prompts", lambda: write_prompts(spec, ledger, kept, data))
    recommended = statement(dev, test, spec.margin)
    for line in with_folder(recommended, dev, kept) if recommended else ():
        print_sentence(console, line)
    controls = read_controls(ledger, spec, data, dev, test, known)
    for line in control_lines(controls):
        print_sentence(console, line)
    files = _write_pages(spec, ledger, data=data, dev=dev, test=test, kept=kept, controls=controls, console=console)
    status = "RUNNING" if running else "FINISHED" if ledger.complete else "KILLED"
    said = recommended.said if recommended else ""
    mirrored, models = _mirror(
        spec, ledger, dev=dev, test=test, kept=kept, files=files, status=status, said=said, seconds=mlflow_seconds
    )
    if loadable and not running:
        make_models_loadable(models, spec.folder, spec.trust_remote_code)
    found = SearchResult(
        folder=spec.folder, dev=dev, test=test, interrupted=status == "KILLED", kept=kept, mirrored=mirrored
    )
    _say_where(console, spec, found, running)
    return found


def read_results(
    ledger: Ledger, spec: StudySpec, data: Mapping[str, DataSet], known: Known | None = None
) -> tuple[Results, Results | None]:
    """What a ledger says on dev, each point standing as the held-out data has it, and on test, None where nothing was
    scored there.

    Metrics that reached the run later count like those of the ledger.
    """
    test = read_split(ledger, spec, data, "test", known) if ledger.on("test") else None
    return judge_on_test(read_split(ledger, spec, data, "dev", known), test), test


def read_controls(
    ledger: Ledger,
    spec: StudySpec,
    data: Mapping[str, DataSet],
    dev: Results,
    test: Results | None,
    known: Known | None = None,
) -> ControlArms:
    """What the ledger says of control arms. dev, test: as `read_results` returns them."""
    return control_arms(spec.folder, ledger, data, spec.seed, dev, test, spec.control_arms, known)


def worth_scoring(spec: StudySpec, data: Mapping[str, DataSet], known: Known | None = None) -> list[str]:
    """The digests of the candidates that dev leaves worth scoring on held-out data and timing, the largest first: the
    baseline, the frontier, and of what is not told apart from it what is kept."""
    dev = read_split(read_ledger(spec.folder), spec, data, "dev", known)
    return [point.record.candidate.digest for point in dev.shown]


def read_split(
    ledger: Ledger, spec: StudySpec, data: Mapping[str, DataSet], split: str, known: Known | None = None
) -> Results:
    """What a ledger says on one split, by that split alone."""
    intervals = Intervals(spec.folder, data[split], spec.seed, quality_of(ledger.header), known)
    records = with_rescored(ledger.on(split), read_rescored(spec.folder))
    return collect(records, intervals, speeds_of(ledger), spec.floor, spec.limits)


def speeds_of(ledger: Ledger) -> dict[str, Speed]:
    """Candidate's digest -> the speed it has as it ships, or why that was not measured."""
    return {record.candidate.digest: _speed(record.outcome) for record in ledger.on(SPEED_SPLIT)}


def _speed(outcome: Outcome) -> Speed:
    """The speed that a trial of it found; one that failed was not measured, for that reason."""
    if isinstance(outcome, Failure):
        return Speed(reason=f"failed, {outcome.reason.replace('_', ' ')}: {outcome.message}")
    if not isinstance(outcome, Speed):
        raise TypeError(f"a trial of the speed ended in a {type(outcome).__name__.lower()}")
    return outcome


def keep_artefacts(spec: StudySpec, dev: Results, again: bool = False, free: Callable[[Path], int] = _free) -> None:
    """Give each artefact that stays a folder under `artefacts/`; remove the run's own store and Tune's state.

    Files are hard links where the file system allows it. What the store held can be made again; a store elsewhere,
    shared with other studies, is left as it is. Of the trials that are not told apart from the frontier, those that are
    worth least go first, one after another, while the disk has no room for the uncompressed model. again: folders that
    are there stay. free: the bytes free on the disk of a folder.
    """
    chosen = _chosen(spec, dev)
    target = spec.folder / ARTEFACTS
    for record in chosen:
        source = _stored(spec, record)
        if source is not None and record.number not in folders_by_number(target):
            _link(source, target / folder_name(record))
    for draft in target.glob(f"{DRAFT}*"):
        shutil.rmtree(draft)
    for number, folder in folders_by_number(target).items():
        if number not in {record.number for record in chosen} and not again:
            shutil.rmtree(folder)
    if spec.store is None:
        shutil.rmtree(spec.store_folder, ignore_errors=True)
    if not any(failure.reason == "lost" for _, failure in dev.failures):
        shutil.rmtree(spec.folder / TUNE_FOLDER, ignore_errors=True)
    if spec.keep == "frontier" and spec.store is None and not again:
        _make_room(target, dev, free)


def _make_room(target: Path, dev: Results, free: Callable[[Path], int]) -> None:
    """Give up models that are not told apart from the frontier while there is no room for the uncompressed one."""
    wanted = dev.baseline.bytes if dev.baseline else 0
    for point in reversed([point for point in dev.worth_keeping if point.tie]):
        folder = folders_by_number(target).get(point.record.number)
        if folder is not None and free(target) < wanted:
            shutil.rmtree(folder)
            log.warning(
                "%s is not kept: the disk has less free than the uncompressed model's %s",
                folder.name,
                spell_bytes(wanted),
            )


def kept_folders(folder: Path, dev: Results) -> dict[int, Path]:
    """trial number -> the folder of its kept artefact."""
    there = folders_by_number(folder / ARTEFACTS)
    return {record.number: there[record.number] for record in _records(dev) if record.number in there}


def not_kept(spec: StudySpec, dev: Results, kept: Mapping[int, Path]) -> list[int]:
    """The numbers of the trials whose models were to stay and are not there: they made room in the store or on the
    disk."""
    wanted = [record for record in _chosen(spec, dev) if record.candidate.steps]
    return sorted(record.number for record in wanted if record.number not in kept)


def _chosen(spec: StudySpec, dev: Results) -> list[TrialRecord]:
    """The trials whose artefacts are to stay."""
    every = _records(dev)
    return {"frontier": [point.record for point in dev.worth_keeping], "all": every, "none": []}[spec.keep]


def _records(dev: Results) -> list[TrialRecord]:
    """The trials that did not fail: those that a race ended too, whose artefacts are there as well."""
    return [*(point.record for point in dev.points), *(trial.record for trial in dev.dropped)]


def folders_by_number(target: Path) -> dict[int, Path]:
    """The kept folders by their trial's number, which names a trial for good; the rest of a name may be spelt anew."""
    folders = target.glob("trial-*-*") if target.is_dir() else ()
    return {int(number): folder for folder in folders if (number := folder.name.split("-")[1]).isdecimal()}


def folder_name(record: TrialRecord) -> str:
    """`trial-3-rtn-4-bit-g64`: what a person can tell apart in a listing."""
    return f"trial-{record.number}-{short_name(record.candidate)}"


def short_name(candidate: Candidate) -> str:
    """The steps in letters, digits and hyphens, which any file system and MLflow's model names take."""
    return re.sub("[^a-z0-9]+", "-", short_label(candidate).replace(MINUS, "minus ")).strip("-")


def _troubles(ledger: Ledger, dev: Results) -> list[str]:
    """The candidates' failures, and what is booked on none of them, a line each."""
    said = [
        f"trial {record.number} ({record.candidate.describe() or 'baseline'}) failed, {failure.reason} in "
        f"{failure.stage}: {failure.message}"
        for record, failure in dev.failures
    ]
    if ledger.set_aside:
        numbers = ", ".join(str(number) for number in sorted(record.number for record in ledger.set_aside))
        said.append(f"not the candidates' fault but the machine's, and tried again by resume: trials {numbers}")
    return said


def _write_pages(
    spec: StudySpec,
    ledger: Ledger,
    data: Mapping[str, DataSet],
    dev: Results,
    test: Results | None,
    kept: Mapping[int, Path],
    controls: ControlArms,
    console: Console,
) -> list[Path]:
    """The pages that could be written."""
    title = title_of(spec)

    def points() -> Path:
        path = spec.folder / "frontier.csv"
        with write_through_draft(path) as draft:
            draft.write_text(frontier_csv(dev), encoding="utf-8")
        return path

    def report() -> Path:
        from orchestrator.report.write_report import write_report

        return write_report(
            spec.folder,
            title,
            dev=dev,
            dev_data=data["dev"],
            test=test,
            test_data=data.get("test"),
            header=ledger.header,
            records=ledger.of_all_splits,
            kept=kept,
            parts=byte_parts(spec, dev, kept),
            controls=controls,
            published=points_of_run(spec.folder),
        )

    def picture() -> Path:
        from orchestrator.report.write_report import write_picture

        return write_picture(spec.folder / "frontier.png", title, dev, points_of_run(spec.folder))

    pages = {"points": points} | ({"report": report, "picture": picture} if dev.points else {})
    written = [_each(console, spec.folder, name, write) for name, write in pages.items()]
    return [path for path in written if path is not None]


def _each(console: Console, folder: Path, name: str, write: Callable[[], Done]) -> Done | None:
    """What it wrote, or None and a line on the console that says why it could not."""

    def told(why: str) -> None:
        line = f"{name:<9} not written: {why}; then try again with: mtpareto report {folder}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    return or_else(write, told)


def _stored(spec: StudySpec, record: TrialRecord) -> Path | None:
    if record.measurement is None or not record.measurement.artefact:
        return None
    artefact = ArtefactStore(spec.store_folder).find(record.measurement.artefact)
    return artefact.path if artefact else None


def _link(source: Path, target: Path) -> None:
    draft = target.with_name(f"{DRAFT}{target.name}")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(source, draft, ignore=shutil.ignore_patterns(MANIFEST), copy_function=_linked)
    draft.rename(target)


def _linked(source: str, target: str) -> str:
    """A hard link, or a copy where the file system has none."""
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
    return target


def _mirror(
    spec: StudySpec,
    ledger: Ledger,
    dev: Results,
    test: Results | None,
    kept: dict[int, Path],
    files: list[Path],
    status: str,
    said: str,
    seconds: float | None,
) -> tuple[bool, list[KeptModel]]:
    """Whether MLflow took all of it in, by so many seconds, and the models that it has registered by then."""
    written = False
    models: list[KeptModel] = []

    def write() -> None:
        nonlocal written
        try:
            models[:] = mirror_results(
                connect(spec),
                spec.folder,
                ledger=ledger,
                results=dev,
                kept=kept,
                status=status,
                files=files,
                held_out=test,
                said=said,
            )
            written = True
        except mlflow_troubles() as error:
            log.warning("MLflow at %s can't be written to: %s", spec.mlflow_uri, spell_trouble(error))

    if seconds is None:
        write()
        return written, models
    # A thread, for a server that does not answer can't be left otherwise.
    writing = threading.Thread(target=write, name="mlflow", daemon=True)
    writing.start()
    writing.join(seconds)
    return written, models


def connect(spec: StudySpec) -> Mirror:
    """The study's place in the MLflow store it names."""
    return Mirror(
        spec.mlflow_uri, str(spec.folder), spec.folder.parent / "mlflow-artifacts", spec.experiment or EXPERIMENT
    )


def _say_where(console: Console, spec: StudySpec, found: SearchResult, running: bool) -> None:
    folder = found.folder
    # Where no trial was measured there is no report.
    pages = {"report": folder / "report.html", "points": folder / "frontier.csv"}
    lines = [f"{what}    {page}" for what, page in pages.items() if page.is_file()]
    if found.kept:
        lines.append(
            f"models    {folder / ARTEFACTS} ({len(found.kept)})   (mtpareto export {folder} --pick knee --to DIR)"
        )
    gone = [] if running or found.interrupted else not_kept(spec, found.dev, found.kept)
    if gone:
        numbers = ", ".join(map(str, gone))
        lines.append(
            f"models    not kept, for they made room: trials {numbers}; a larger disk or --store-limit keeps more"
        )
    if found.mirrored:
        lines.append(f"MLflow    {spec.mlflow_uri}   (mtpareto ui {folder})")
    else:
        lines.append(f"MLflow    could not be written to; try again with: mtpareto mirror {folder}")
    if running:
        lines.append("the search is still running")
    if found.interrupted:
        lines.append(f"stopped before the end; resume with: mtpareto resume {folder}")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
