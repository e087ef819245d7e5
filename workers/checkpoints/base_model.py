"""The model that a study starts from: found and understood from its headers, and where it is not a plain one (text
alone, 16 bits, each weight once) how it becomes one in the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from search_spaces.candidate import WHOLE, BaseModel, is_of_content
from search_spaces.errors import CandidateError, ModelFilesError
from search_spaces.sizes.plain_model import FORM, TEXT_TYPES, Conversion, conversion, text_model_config
from search_spaces.sizes.refusals import why_not_by_config
from search_spaces.sizes.tensor_table import Checkpoint
from workers.checkpoints.adapters import ROOT_ADAPTER_CONFIG
from workers.checkpoints.architectures import causal_models
from workers.checkpoints.content import content_revision, digest_of_files
from workers.checkpoints.locate import locate_model
from workers.checkpoints.model_files import (
    CONFIG,
    SINGLE_WEIGHTS,
    TOKENIZER_FILES,
    WEIGHTS_INDEX,
    config_text,
    index_of,
    left_alone,
    read_checkpoint,
    read_config,
    refuse_no_config,
    same_bytes,
    small_files,
    weight_files,
)
from workers.checkpoints.root_adapter import RootAdapter, read_root_adapter

OTHER_HEADS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "RewardModel")
ONTO = "+onto:"
PLAIN = f"+{FORM}"


@dataclass(frozen=True, slots=True)
class OpenedBase:
    """A base model, ready for candidates."""

    base: BaseModel
    """Its name and what fixes its weights."""
    folder: Path
    """Where the whole weights lie."""
    adapter: RootAdapter | None
    """The adapter that is merged into them, or None."""
    conversion: Conversion | None
    """How the weights become plain; None where the folder is used as it is."""
    checkpoint: Checkpoint
    """What candidates start from."""
    notes: tuple[str, ...]
    """What a person has to know, a line each."""

    @property
    def tokenizer_folder(self) -> Path:
        """Where the tokenizer lies: with an adapter that has one, else with the base."""
        return self.adapter.folder if self.adapter and self.adapter.tokenizer_files() else self.folder


def open_base(
    name: str,
    revision: str | None = None,
    trust_remote_code: bool = False,
    check: Callable[[Checkpoint], object] = lambda checkpoint: None,
    compressed: bool = True,
) -> OpenedBase:
    """The model that a local folder, a hub id or the folder of an adapter names. revision: of the hub, or the one of a
    `BaseModel` that this gave, which also says how local files are known.

    check: sees what candidates start from before any weights are read, and may refuse it. compressed: whether it is to
    be compressed, so that what can't be is refused before its weights are downloaded. Raises ModelFilesError or
    CandidateError, with the way out.
    """
    files = _files(name, revision, partial(_look, trust_remote_code=trust_remote_code, compressed=compressed))
    made, checkpoint = _understood(name, files)
    check(checkpoint)
    own, onto = _whole_parts(revision)
    if files.adapter is None:
        fixed = files.commit or content_revision(files.folder, trust_remote_code, own)
    else:
        under = files.commit or content_revision(files.folder, trust_remote_code, onto)
        over = files.adapter_commit or digest_of_files(files.adapter.folder, files.adapter.files(), own)
        fixed = f"{over}{ONTO}{under}"
    base = BaseModel(name, fixed + (PLAIN if made else ""))
    return OpenedBase(
        base=base,
        folder=files.folder,
        adapter=files.adapter,
        conversion=made,
        checkpoint=checkpoint,
        notes=_notes(files, made),
    )


def refuse_early(
    name: str,
    revision: str | None,
    trust_remote_code: bool,
    check: Callable[[Checkpoint], object],
    compressed: bool = True,
) -> None:
    """Raise what `open_base` would, as far as a local model's headers tell, or config.json of one on the hub."""
    look = partial(_look, trust_remote_code=trust_remote_code, compressed=compressed)
    own, _ = _parts(revision)
    folder, commit = locate_model(name, own, look, weights=False)
    if commit is None and not is_adapter(folder):
        check(_understood(name, _Files(folder, None, None, None))[1])


@dataclass(frozen=True, slots=True)
class _Files:
    """folder, commit: of the whole weights; adapter, adapter_commit: of what is merged into them. A commit is the
    hub's, None for what is local."""

    folder: Path
    commit: str | None
    adapter: RootAdapter | None
    adapter_commit: str | None


def _files(name: str, revision: str | None, look: Callable[[Path], None]) -> _Files:
    own, onto = _parts(revision)
    folder, commit = locate_model(name, own, look)
    if not is_adapter(folder):
        return _Files(folder, commit, None, None)
    adapter = read_root_adapter(folder)
    base, base_commit = adapter.base(onto, look)
    if is_adapter(base):
        raise ModelFilesError(
            f"{name} is an adapter on {adapter.onto}, which is one itself; merge that with peft first"
        )
    return _Files(base, base_commit, adapter, commit)


def _understood(name: str, files: _Files) -> tuple[Conversion | None, Checkpoint]:
    """How the model becomes plain, and what candidates start from."""
    stored = read_checkpoint(files.folder)
    adapter = files.adapter
    made = conversion(stored, causal_models(), partial(same_bytes, files.folder), adapted=adapter is not None)
    if adapter is not None:
        if made is None:
            raise ModelFilesError(f"{name} is an adapter on {adapter.onto}, {_why_not(stored)}")
        adapter.refuse_strange(made, stored.config.get("model_type"))
        # By which prompts know where a model comes from.
        made = replace(made, config={**made.config, "_name_or_path": Path(adapter.onto).name})
    if made is None:
        return None, stored
    return made, made.checkpoint(stored, _other_bytes(files.folder, adapter, made.config))


def is_adapter(folder: Path) -> bool:
    """Whether the folder is that of an adapter without the weights that it belongs to."""
    whole = (SINGLE_WEIGHTS, WEIGHTS_INDEX)
    return (folder / ROOT_ADAPTER_CONFIG).is_file() and not any((folder / name).is_file() for name in whole)


def plain_files(folder: Path, adapter: RootAdapter | None) -> list[Path]:
    """The files that are copied beside the plain weights: an adapter's tokenizer goes before the base's."""
    files = {file.name: file for file in small_files(folder) if file.name not in (CONFIG, index_of(folder))}
    if adapter is not None and (theirs := adapter.tokenizer_files()):
        files = {name: file for name, file in files.items() if name not in TOKENIZER_FILES}
        files |= {file.name: file for file in theirs}
    return list(files.values())


def is_plain_revision(revision: str) -> bool:
    """Whether a `BaseModel` of this revision is made in the store."""
    return revision.endswith(PLAIN)


def _parts(revision: str | None) -> tuple[str | None, str | None]:
    """The hub's revisions of the model and of what an adapter lies on; None for local ones."""
    if revision is None:
        return None, None
    own, _, onto = revision.removesuffix(PLAIN).partition(ONTO)
    known = [part if part and not is_of_content(part) else None for part in (own, onto)]
    return known[0], known[1]


def _whole_parts(revision: str | None) -> tuple[bool, bool]:
    """Whether the model, and what an adapter lies on, are known by all their bytes: `sha256:…`, also of large files,
    which older studies read whole."""
    own, _, onto = (revision or "").partition(ONTO)
    return own.startswith(WHOLE), onto.startswith(WHOLE)


def _look(folder: Path, trust_remote_code: bool, compressed: bool) -> None:
    """Raise for what config.json alone tells."""
    if not (folder / CONFIG).is_file() and is_adapter(folder):
        return
    refuse_no_config(folder)
    config = read_config(folder)
    kind, known = config.get("model_type"), causal_models()
    if config.get("auto_map") and kind not in known and kind not in TEXT_TYPES:
        _refuse_own_code(folder, config, trust_remote_code)
    elif kind is not None and kind not in known and kind not in TEXT_TYPES:
        said = why_not_by_config(config) or (
            f"{folder} holds a {_architecture(config)}, for which the installed transformers has no causal language "
            "model; encoder-decoders such as NLLB, M2M100 and T5 are not taken. Name a causal language model, or "
            "install a transformers that knows it"
        )
        raise ModelFilesError(said)
    if config.get("is_encoder_decoder") or any(head in _architecture(config) for head in OTHER_HEADS):
        raise ModelFilesError(
            f"{folder} holds a {_architecture(config)}, which is not a causal language model; name one that is"
        )
    if compressed:
        text = text_model_config(config, known) if kind in TEXT_TYPES else config
        if reason := why_not_by_config({**text, **_quantized(config)}):
            raise CandidateError(reason)


def _refuse_own_code(folder: Path, config: Mapping[str, Any], trust_remote_code: bool) -> None:
    if not trust_remote_code:
        raise ModelFilesError(
            f"{folder} holds a {_architecture(config)}, which comes with code of its own (auto_map in {CONFIG}): read "
            "it, and let it run with --trust-remote-code (main.py: --trust_remote_code; trust_remote_code: true in a "
            "study)"
        )


def _quantized(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: config[key] for key in ("quantization_config", "compression_config") if config.get(key)}


def _architecture(config: Mapping[str, Any]) -> str:
    return str(next(iter(config.get("architectures") or ()), config.get("model_type")))


def _why_not(stored: Checkpoint) -> str:
    return why_not_by_config(stored.config) or "whose weights are packed; name one with its weights whole"


def _other_bytes(folder: Path, adapter: RootAdapter | None, config: Mapping[str, Any]) -> int:
    beside = sum(file.stat().st_size for file in plain_files(folder, adapter))
    return beside + len(config_text(config).encode())


def _notes(files: _Files, made: Conversion | None) -> tuple[str, ...]:
    notes = list(made.notes) if made else []
    if files.adapter is not None:
        notes.insert(0, f"the adapter is merged onto {files.adapter.onto}, which it names")
    taken = {file.name for file in weight_files(files.folder)}
    if others := left_alone(files.folder):
        shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        notes.append(f"{shown}: left alone, neither counted nor written; transformers takes {min(taken)}")
    return tuple(notes)
