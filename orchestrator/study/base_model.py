"""What the driver asks of a study's model before anything is written, and what it says of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from orchestrator.ledger.lines import BaseJson
from orchestrator.number_format import spell_bytes
from orchestrator.study.preflight import nearest_folder
from search_spaces.candidate import BaseModel
from search_spaces.errors import StudyError
from search_spaces.methods.registry import Step
from search_spaces.predicted_size import predicted_bytes
from search_spaces.sizes.refusals import refuse_uncompressible
from search_spaces.sizes.tensor_table import Checkpoint
from workers.checkpoints.base_model import PLAIN, OpenedBase
from workers.checkpoints.gguf_header import is_gguf_revision
from workers.loading.gguf_folder import key_of
from workers.loading.plain_folder import plain_key
from workers.reading.segments import DataSet
from workers.runtime.artefact_store import ArtefactStore
from workers.translation.chat_template import read_template
from workers.translation.prompts import choose_prompt, refuse_unanswerable

# What a model's bytes may differ by and still be counted alike.
SAME_WITHIN = 0.005


def refuse_unaskable(
    opened: OpenedBase, prompt: str | None, datasets: Iterable[DataSet], trust_remote_code: bool
) -> None:
    """Raise StudyError where the model's prompt, or the family that `prompt` names, can't ask for these translations.

    A tokenizer of its own code may have a chat template that no file holds; its prompts are not looked at.
    """
    template = read_template(opened.tokenizer_folder)
    if template is None and trust_remote_code:
        return
    chosen = choose_prompt(opened.base.name, opened.checkpoint.config, template, prompt)
    refuse_unanswerable(chosen, template, [segment for dataset in datasets for segment in dataset.segments])


def refuse_candidates(checkpoint: Checkpoint, steps: Iterable[tuple[Step, ...]]) -> None:
    """Raise CandidateError or StudyError for a model that can't be compressed, or not by these steps."""
    refuse_uncompressible(checkpoint)
    if not checkpoint.targets():
        raise StudyError("the model has no decoder layers that compression knows (tensors named ….layers.N.….weight)")
    for chain in steps:
        predicted_bytes(checkpoint, chain)


def refuse_changed_base(began: BaseJson, now: BaseModel, size: int) -> None:
    """Raise StudyError where a study goes on with another model than it began with, or with the same one counted
    otherwise. began: the ledger's record of the model. size: in bytes, as it is counted now."""
    if f"{began['revision']}{PLAIN}" == now.revision or (
        began["revision"] == now.revision and abs(began["bytes"] - size) > SAME_WITHIN * size
    ):
        raise StudyError(
            f"the model {now.name} was read with everything in its files when the study began, "
            f"{spell_bytes(began['bytes'])}; now it is read as a plain model of what runs, {spell_bytes(size)}; "
            "results of the two can't be mixed: begin a new study"
        )
    if began["revision"] != now.revision:
        raise StudyError(
            f"the model {now.name} has changed since the study began ({began['revision']}, now {now.revision}); "
            "put the old one back, or begin a new study, because results of the two can't be mixed"
        )


def describe_base(opened: OpenedBase, store: Path) -> list[str]:
    """What a person has to know of the model, and of the plain one that the store will hold; raises StudyError where
    there is no room for that."""
    lines = [f"model: {note}" for note in opened.notes]
    from_gguf = is_gguf_revision(opened.base.revision)
    key = key_of(opened.base.revision) if from_gguf else plain_key(opened.base)
    if not (opened.conversion or from_gguf) or ArtefactStore(store).find(key) is not None:
        return lines
    needed = opened.checkpoint.bytes
    there = nearest_folder(store)
    free = shutil.disk_usage(there).free
    if free < needed:
        raise StudyError(
            f"the model is written once more as a plain one, {spell_bytes(needed)}, and {there} has room for "
            f"{spell_bytes(free)}; free some, or name another folder with --store"
        )
    return [*lines, f"model: written once as a plain one to {store}, {spell_bytes(needed)}"]
