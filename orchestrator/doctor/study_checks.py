"""What of a study would stop its search: its file, model, data, folder, disk, memory and COMET. Nothing is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from orchestrator.doctor.finding import Finding, found
from orchestrator.finish.run_folder import read_data
from orchestrator.ledger.records import refuse_taken
from orchestrator.number_format import spell_bytes, spell_seconds
from orchestrator.report.published.points_file import read_published_points
from orchestrator.search.dry_run import PlannedTrial, plan_trials, refuse_small_gpu
from orchestrator.search.loop import store_limit
from orchestrator.search.prepared import Study
from orchestrator.study.base_model import refuse_candidates, refuse_unaskable
from orchestrator.study.calibration import Calibration, read_calibration
from orchestrator.study.metrics import ALWAYS
from orchestrator.study.preflight import nearest_folder, refuse_small_disk, worker_packages
from orchestrator.study.spec import NO_LANGUAGE_CHECK, StudySpec
from orchestrator.study.training import Training, read_training
from search_spaces.wording import pluralize
from workers.checkpoints.base_model import OpenedBase
from workers.checkpoints.gguf_header import is_gguf
from workers.comet.environment import STAMP, environment_folder
from workers.comet.files import CHECKPOINT, MODELS, models_folder
from workers.evaluation.preflight import DRIVER, PAGES
from workers.loading.opening import open_model, origin_of, refuse_model_early
from workers.reading.segments import DataSet
from workers.scoring.direction_check import refuse_wrong_direction

NOT_LOOKED_AT = "not looked at, since {what} is wrong"


def study_findings(spec: StudySpec, memory: int | None) -> tuple[list[Finding], tuple[str, ...]]:
    """A line for each thing that the study names, and the packages that it needs. memory: bytes of the smallest GPU;
    None where there is none, or a cluster is asked for."""
    findings: list[Finding] = [found("folder", lambda: _folder(spec))]

    def look(what: str, at: Callable[[], str]) -> bool:
        findings.append(found(what, at))
        return findings[-1].level != "wrong"

    data: dict[str, DataSet] = {}
    opened: list[OpenedBase] = []
    learning: list[tuple[Calibration, Training | None]] = []
    known = look("data", lambda: _data(spec, data))
    if spec.published is not None:
        look("published points", lambda: _published_points(Path(str(spec.published))))
    if known and spec.check_languages:
        known = look("languages", lambda: _languages(data))
    if known:
        known = look("learning data", lambda: _learning(spec, data, learning))
    readable = look("model", lambda: _model(spec, opened))
    if not opened and readable:
        findings[-1] = Finding("warning", "model", findings[-1].said)
    if known and opened:
        look("prompt", lambda: _prompt(spec, opened[0], data))
    findings += comet_findings(spec)
    metrics = tuple(dict.fromkeys((spec.quality, *ALWAYS)))
    trains = bool(spec.training)
    packages = (*worker_packages(spec, data, metrics, trains), *DRIVER, *PAGES)
    if not (known and learning and opened):
        what = "something above" if known else "the data"
        if opened or not readable:
            findings.append(Finding("warning", "disk", NOT_LOOKED_AT.format(what=what)))
        return findings, packages
    calibration, training = learning[0]
    study = Study(spec, opened[0].base, opened[0].checkpoint, data, calibration, metrics, training, packages)
    planned: list[PlannedTrial] = []
    if look("trials", lambda: _trials(study, planned)):
        look("disk", lambda: _disk(study, planned))
        if memory is not None:
            look("GPU memory", lambda: _memory(study, planned, memory))
    return findings, packages


def comet_findings(spec: StudySpec) -> list[Finding]:
    """COMET's environment and model, where the study asks for it. Nothing is made or fetched."""
    if spec.quality != "comet" and spec.comet_model is None:
        return []
    folder = environment_folder()
    if (folder / STAMP).is_file():
        environment = Finding("ok", "COMET", f"its environment is {folder}")
    else:
        said = f"its environment {folder} is not made; the search makes it first, which takes a minute and a network"
        environment = Finding("warning", "COMET", said)
    return [environment, _comet_model(MODELS.get(spec.comet_model or "comet", spec.comet_model or ""))]


def _comet_model(name: str) -> Finding:
    from huggingface_hub import try_to_load_from_cache

    by_hand = models_folder() / name
    if Path(name).expanduser().exists() or (by_hand / CHECKPOINT).is_file():
        return Finding("ok", "COMET model", name)
    if name.count("/") == 1 and isinstance(try_to_load_from_cache(name, CHECKPOINT), str):
        return Finding("ok", "COMET model", f"{name}, in the hub's cache")
    if name.count("/") != 1 or os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return Finding("wrong", "COMET model", f"{name} is not on this machine", f"put it into {by_hand}")
    return Finding("warning", "COMET model", f"{name} is not on this machine; the search fetches it")


def _folder(spec: StudySpec) -> str:
    refuse_taken(spec.folder)
    return f"{spec.folder} is free to be made"


def _published_points(path: Path) -> str:
    return pluralize(len(read_published_points(path)), "published point")


def _data(spec: StudySpec, data: dict[str, DataSet]) -> str:
    data.update(read_data(spec))
    return "; ".join(
        f"{split} {dataset.name}, {pluralize(len(dataset.segments), 'segment')}, {', '.join(dataset.pairs)}"
        for split, dataset in data.items()
    )


def _languages(data: Mapping[str, DataSet]) -> str:
    for dataset in data.values():
        refuse_wrong_direction(dataset.name, dataset.segments, f"{NO_LANGUAGE_CHECK} (check_languages: false)")
    return "the data seem to be in the languages that they say"


def _learning(
    spec: StudySpec, data: Mapping[str, DataSet], found_there: list[tuple[Calibration, Training | None]]
) -> str:
    calibration = read_calibration(spec, data)
    training = read_training(spec, data)
    found_there.append((calibration, training))
    unseen = f", none in {', '.join(calibration.unseen)}" if calibration.unseen else ""
    said = f"{pluralize(len(calibration.pairs.segments), 'calibration pair')}{unseen}"
    return f"{said}; training data readable" if training else said


def _model(spec: StudySpec, opened: list[OpenedBase]) -> str:
    """Opens a model whose weights are on this machine; of a hub model that is not, what its small files say."""
    check = partial(refuse_candidates, steps=spec.spelt)
    refuse_model_early(spec.model, spec.revision, spec.trust_remote_code, check)
    if not is_gguf(spec.model) and not Path(spec.model).expanduser().is_dir() and not _cached(spec):
        return f"{spec.model} is on the hub, and its weights are not in the cache; the search fetches them"
    opened.append(open_model(spec.model, spec.revision, spec.trust_remote_code, check))
    checkpoint = opened[0].checkpoint
    origin = origin_of(spec.model)
    return (
        f"{spec.model}: {spell_bytes(checkpoint.bytes)}, {checkpoint.parameters / 1e6:,.0f} M parameters, "
        f"{pluralize(checkpoint.layers, 'layer')}" + (f"; read from {origin}" if origin else "")
    )


def _cached(spec: StudySpec) -> bool:
    """Whether a hub model's weights lie in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    names = ("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors")
    return any(isinstance(try_to_load_from_cache(spec.model, name, revision=spec.revision), str) for name in names)


def _prompt(spec: StudySpec, opened: OpenedBase, data: Mapping[str, DataSet]) -> str:
    refuse_unaskable(opened, spec.prompt, data.values(), spec.trust_remote_code)
    return "the model can be asked for these translations"


def _trials(study: Study, planned: list[PlannedTrial]) -> str:
    listed, refused = plan_trials(study)
    planned.extend(listed)
    first = f"{len(listed)} are known beforehand, about {spell_seconds(sum(one.seconds for one in listed))} on one H200"
    left_out = f"; {len(refused)} that the model can't take are left out" if refused else ""
    return f"{study.spec.trials} asked for; {first}{left_out}"


def _disk(study: Study, planned: list[PlannedTrial]) -> str:
    """As `--dry-run` refuses, with what all that is known beforehand would take in the store."""
    spec = study.spec
    first = next((one.bytes for one in planned[1:]), 0)
    refuse_small_disk(spec.store_folder, study.checkpoint.bytes, first, spec.store_limit)
    folder = nearest_folder(spec.store_folder)
    limit = store_limit(spec)
    held = f", of which the store takes at most {spell_bytes(limit)}" if limit else ""
    wanted = spell_bytes(sum(one.bytes for one in planned[1:]))
    return f"{spell_bytes(shutil.disk_usage(folder).free)} free in {folder}{held}; the trials known take {wanted}"


def _memory(study: Study, planned: list[PlannedTrial], memory: int) -> str:
    refuse_small_gpu(study, planned, memory)
    most = max(one.memory for one in planned)
    return f"about {spell_bytes(most)} of {spell_bytes(memory)} to translate {study.spec.batch_size} segments at a time"
