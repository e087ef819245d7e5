"""What a search must find before anything is written: its packages, and room for the first artefact."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from orchestrator.cluster.address import asked_for
from orchestrator.number_format import spell_bytes
from orchestrator.study.spec import StudySpec
from search_spaces.errors import StudyError
from workers.evaluation.preflight import DRIVER, PAGES, packages_for, refuse_missing
from workers.reading.segments import DataSet

# The spaces' methods that a package of their own carries out.
OWN_PACKAGES = {"bit-width": ("bitsandbytes",), "joint": ("bitsandbytes",)}


def worker_packages(
    spec: StudySpec, data: Mapping[str, DataSet], metrics: Iterable[str], trains: bool
) -> tuple[str, ...]:
    """What this study's workers import. trains: whether the study has training data."""
    methods = {step.name for steps in spec.given for step in steps} | set(OWN_PACKAGES.get(spec.space, ()))
    if trains:
        methods.add("recover")
    targets = {segment.target_language for dataset in data.values() for segment in dataset.segments}
    return tuple(packages_for(sorted(methods), targets, metrics, trains and spec.training_gpus > 1))


def refuse_missing_packages(packages: Iterable[str], address: str | None) -> None:
    """Raise MachineError that names every package that the driver and its pages lack, and those that workers lack where
    they are of this machine: with no address of a cluster."""
    local = asked_for(address, os.environ) is None
    refuse_missing((*DRIVER, *PAGES, *(packages if local else ())))


def nearest_folder(path: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def refuse_small_disk(store: Path, base: int, first: int, limit: int | None = None) -> None:
    """Raise StudyError where the store's disk has no room for a copy of the base model and the first artefact beside
    it, of so many bytes: steps pass whole copies on, and calibration statistics are of a like size. limit: of the
    store, which must hold that artefact."""
    if limit is not None and limit < first:
        raise StudyError(
            f"--store-limit {spell_bytes(limit)} does not hold the first candidate's {spell_bytes(first)}; ask for more"
        )
    folder = nearest_folder(store)
    free = shutil.disk_usage(folder).free
    if free < base + first:
        raise StudyError(
            f"{folder} has {spell_bytes(free)} free; the artefact store needs {spell_bytes(base + first)}, the model's "
            f"{spell_bytes(base)} and the first candidate's {spell_bytes(first)}: free some space, or name a folder on "
            "another disk with --store"
        )
