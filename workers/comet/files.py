"""Where a COMET model's files are: a folder, this machine's COMET folder, the hub's cache or the hub; without torch."""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from search_spaces.errors import StudyError
from workers.runtime.not_data import why_no_file_at

MODELS = {"comet": "Unbabel/wmt22-comet-da", "cometkiwi": "Unbabel/wmt22-cometkiwi-da"}
FOLDER_VARIABLE = "MTPARETO_COMET"
HPARAMS = "hparams.yaml"
CHECKPOINT = "checkpoints/model.ckpt"
ENCODER = "encoder"
ENCODER_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "sentencepiece.bpe.model")
# The default models' encoders, for a message written before hparams.yaml is there to say so.
ENCODERS = {"Unbabel/wmt22-comet-da": "xlm-roberta-large", "Unbabel/wmt22-cometkiwi-da": "microsoft/infoxlm-large"}
KINDS = ("regression_metric", "referenceless_regression_metric", "unified_metric", "xcomet_metric")


@dataclass(frozen=True, slots=True)
class CometFiles:
    """A COMET model on this machine."""

    name: str
    """The hub id, or the folder's name where a path was given."""
    checkpoint: Path
    """The file model.ckpt."""
    hparams: dict[str, Any]
    """The parsed hparams.yaml."""
    encoder: Path
    """A folder with the encoder's config and tokenizer."""
    needs_reference: bool
    """False for a quality-estimation model, which sees the source and the hypothesis only."""


def comet_checkpoint(model: str) -> Path:
    """The checkpoint that a metric's name, a hub id or a path names; raises as `comet_files` does."""
    return comet_files(model).checkpoint


def refuse_unreachable(model: str) -> None:
    """Raise StudyError, naming the file to put where, when the model's files can't be had; for before a search."""
    comet_files(model)


def comet_files(model: str) -> CometFiles:
    """The files of `model`: "comet", "cometkiwi", a hub id, a checkpoint or a folder that holds checkpoints/model.ckpt.

    A hub id is looked for under MTPARETO_COMET (else ~/.cache/mtpareto/comet), then in the hub's cache, then fetched.
    Raises StudyError when it can't be found, or is a kind of model that gives no score of one hypothesis.
    """
    name = MODELS.get(model, model)
    folder = _model_folder(name)
    hparams = _read_hparams(folder)
    kind = hparams.get("class_identifier")
    if kind not in KINDS:
        raise StudyError(f"{folder / HPARAMS} says class_identifier {kind!r}; COMET models that score are {KINDS}")
    encoder = _encoder_folder(name, folder, str(hparams.get("pretrained_model")))
    free = kind == "referenceless_regression_metric" or "ref" not in hparams.get("input_segments", ["ref"])
    shown = folder.name if Path(name).expanduser().exists() else name
    return CometFiles(shown, folder / CHECKPOINT, hparams, encoder, not free)


def models_folder() -> Path:
    """Where COMET models lie that were copied by hand: OWNER/NAME/{hparams.yaml, checkpoints/model.ckpt, encoder/}."""
    named = os.environ.get(FOLDER_VARIABLE)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named).absolute() if named else cache / "mtpareto" / "comet"


def checkpoint_digest(checkpoint: Path) -> str:
    """The first 16 digits of the checkpoint's SHA-256; a file is read once a process."""
    state = checkpoint.stat()
    return _digest(checkpoint, state.st_size, state.st_mtime_ns)


@functools.cache
def _digest(checkpoint: Path, size: int, changed: int) -> str:
    with checkpoint.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _model_folder(name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_file():
        return _whole(path.resolve().parents[1])
    if path.is_dir():
        return _whole(path.resolve())
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise StudyError(
            f"the COMET model {name} is neither a folder nor a checkpoint nor a hub id (owner/name); "
            f"there are {', '.join(MODELS)}, or give a folder that holds {CHECKPOINT}"
        )
    by_hand = models_folder() / name
    if by_hand.is_dir():
        return _whole(by_hand)
    return _from_hub(name, (HPARAMS, CHECKPOINT), name, ENCODERS.get(name, "its encoder"))


def _whole(folder: Path) -> Path:
    for file in (HPARAMS, CHECKPOINT):
        if not (folder / file).is_file():
            raise StudyError(
                f"a COMET model is a folder with {HPARAMS} and {CHECKPOINT}, and {folder / file} is not there"
            )
        if (found := why_no_file_at(folder / file)) is not None:
            what, way_out = found
            raise StudyError(f"{folder / file}: {what}. {way_out.replace('FILE', Path(file).name)}")
    return folder


def _read_hparams(folder: Path) -> dict[str, Any]:
    try:
        hparams = yaml.safe_load((folder / HPARAMS).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise StudyError(f"{folder / HPARAMS} can't be read: {error}") from error
    if not isinstance(hparams, dict):
        raise StudyError(f"{folder / HPARAMS} holds no settings of a COMET model")
    return hparams


def _encoder_folder(name: str, folder: Path, pretrained: str) -> Path:
    for place in (folder / ENCODER, Path(pretrained)):
        if (place / "config.json").is_file():
            return place.resolve()
    if pretrained.startswith((".", "/", "~")):
        raise StudyError(
            f"{folder / HPARAMS} names the encoder {pretrained}, which is not here; put its "
            f"{', '.join(ENCODER_FILES[:3])} into {folder / ENCODER}"
        )
    return _from_hub(pretrained, (*ENCODER_FILES, "special_tokens_map.json"), name, pretrained)


def _from_hub(repository: str, files: tuple[str, ...], model: str, encoder: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    wanted = list(files)
    try:
        folder = Path(snapshot_download(repository, allow_patterns=wanted, local_files_only=True))
        if _is_enough(folder):
            return folder
    except LocalEntryNotFoundError:
        pass
    try:
        folder = Path(snapshot_download(repository, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise StudyError(_how_to_put_it_there(repository, model, encoder, str(error))) from error
    if not _is_enough(folder):
        raise StudyError(_how_to_put_it_there(repository, model, encoder, f"{folder} has a part of it only"))
    return folder


def _is_enough(folder: Path) -> bool:
    """Whether all of a model, or of an encoder, was fetched; some encoders have one form of the tokenizer only."""
    model = (folder / HPARAMS).is_file() and (folder / CHECKPOINT).is_file()
    tokenizer = any((folder / name).is_file() for name in ("tokenizer.json", "sentencepiece.bpe.model"))
    return model or (tokenizer and (folder / "config.json").is_file())


def _how_to_put_it_there(repository: str, model: str, encoder: str, why: str) -> str:
    place = models_folder() / model
    reason = why.strip().splitlines()[0].rstrip(".")
    return (
        f"{repository}, which the COMET model {model} needs, is not here and could not be fetched ({reason}). "
        f"From a machine that reaches the hub (a gated model also needs `hf auth login`), copy {HPARAMS} and "
        f"{CHECKPOINT} of {model} to {place}/{HPARAMS} and {place}/{CHECKPOINT}, and {', '.join(ENCODER_FILES)} of "
        f"{encoder} into {place}/{ENCODER}/. {FOLDER_VARIABLE} names another folder than {models_folder()}"
    )
