"""Where each point's bytes are: read from the headers of the models that were kept, else predicted from the base's."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from orchestrator.results.points import Point, Results
from orchestrator.study.spec import StudySpec
from search_spaces.errors import ModelFilesError, UserError
from search_spaces.methods.registry import Step
from search_spaces.methods.trainers import Recover
from search_spaces.predicted_size import predicted_bytes, predicted_checkpoint
from search_spaces.sizes.byte_parts import ByteParts, parts_of
from search_spaces.sizes.tensor_table import Checkpoint
from workers.checkpoints.adapters import ADAPTER_FILES
from workers.checkpoints.base_model import open_base
from workers.checkpoints.gguf_header import gguf_revision, is_gguf, read_gguf
from workers.checkpoints.model_files import read_checkpoint, size_of
from workers.loading.gguf_folder import key_of
from workers.runtime.artefact_store import ArtefactStore

log = logging.getLogger(__name__)


def byte_parts(spec: StudySpec, dev: Results, kept: Mapping[int, Path]) -> dict[int, ByteParts]:
    """Trial number -> where its bytes are, of the baseline, the frontier and what of its ties is kept.

    A point is missing whose model was not kept where the base model is not on this machine. Nothing is fetched.
    """
    base = base_table(spec)
    found = {point.record.number: _of_point(point, base, kept.get(point.record.number)) for point in dev.shown}
    return {number: parts for number, parts in found.items() if parts is not None}


def base_table(spec: StudySpec) -> Checkpoint | None:
    """The base model's table, by its headers; None where it is not on this machine, or can't be read."""
    folder = _here(spec)
    try:
        return None if folder is None else open_base(str(folder), None, spec.trust_remote_code).checkpoint
    except UserError as error:
        log.warning("where the base model's bytes are is not told: %s", error)
        return None


def kept_parts(folder: Path) -> ByteParts:
    """Of a model's folder, by the headers of its weights; raises ModelFilesError where there are none."""
    return ByteParts(parts_of(read_checkpoint(folder), sum(size_of(folder / name) for name in ADAPTER_FILES)))


def predicted_parts(base: Checkpoint, steps: tuple[Step, ...]) -> ByteParts:
    """Of a candidate that was not kept; raises CandidateError where the base can't take a step."""
    apart = [step for step in steps if isinstance(step, Recover) and step.is_apart]
    without = tuple(step for step in steps if step not in apart)
    adapter = predicted_bytes(base, steps) - predicted_bytes(base, without)
    return ByteParts(parts_of(predicted_checkpoint(base, steps), adapter), predicted=True)


def _of_point(point: Point, base: Checkpoint | None, folder: Path | None) -> ByteParts | None:
    steps = point.record.candidate.steps
    try:
        if folder is not None:
            return kept_parts(folder)
        if base is None:
            return None
        return predicted_parts(base, steps) if steps else ByteParts(parts_of(base))
    except UserError as error:
        log.warning("where the bytes of trial %d are is not told: %s", point.record.number, error)
        return None


def _of_gguf(spec: StudySpec) -> Path | None:
    """The folder of a GGUF file in the study's store; None where it is not there any longer."""
    try:
        found = ArtefactStore(spec.store_folder).find(key_of(gguf_revision(read_gguf(Path(spec.model)))))
    except ModelFilesError:
        return None
    return None if found is None else found.path


def _here(spec: StudySpec) -> Path | None:
    """The base model's folder, a hub model's in the hub's cache; None where it is not there."""
    if is_gguf(spec.model):
        return _of_gguf(spec)
    local = Path(spec.model).expanduser()
    if local.is_dir():
        return local
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(spec.model, revision=spec.revision, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None
