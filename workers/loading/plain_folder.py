"""The folder of a plain base model in the store, written tensor by tensor from what people publish."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_spaces.candidate import BaseModel, digest_of, is_of_content
from search_spaces.errors import ModelFilesError
from workers.checkpoints.base_model import OpenedBase, is_plain_revision, open_base, plain_files
from workers.checkpoints.gguf_header import gguf_revision, is_gguf_revision, read_gguf
from workers.checkpoints.model_files import read_config
from workers.failures.table import BaseChanged
from workers.loading.gguf_folder import key_of, stored_folder
from workers.runtime.artefact_store import ArtefactStore

if TYPE_CHECKING:
    import torch


def base_folder(name: str, revision: str, store: Path, trust_remote_code: bool = False) -> Path:
    """The base model's folder on this node: its own, or the plain one in the store, made there by the first to ask.

    Contents are checked once a process, and again when a file is another or gone. Raises BaseChanged for a model that
    is not the one the study began with, ConnectionError for a hub model that this node can't fetch.
    """
    base = BaseModel(name, revision)
    if is_gguf_revision(revision):
        return _of_gguf(base, store)
    key = plain_key(base)
    if is_plain_revision(revision) and (found := ArtefactStore(store).find(key)) is not None:
        return found.path
    opened, seen = _opened(base, trust_remote_code)
    if _stamps(opened.folder) != seen:
        _opened.cache_clear()
        opened, _ = _opened(base, trust_remote_code)
    if opened.conversion is None:
        return opened.folder
    return ArtefactStore(store).get(key, functools.partial(write_plain, opened)).path


def _of_gguf(base: BaseModel, store: Path) -> Path:
    """The folder of a GGUF file in the store, made there by the first to ask."""
    if (found := ArtefactStore(store).find(key_of(base.revision))) is not None:
        return found.path
    try:
        header = read_gguf(Path(base.name))
    except ModelFilesError as error:
        raise BaseChanged(f"the model {base.name} is not the one the study began with: {error}") from error
    if (revision := gguf_revision(header)) != base.revision:
        raise BaseChanged(f"the file {base.name} is not the one the study began with ({revision}, not {base.revision})")
    return stored_folder(header, store, lambda line: None)


def plain_key(base: BaseModel) -> str:
    """The store's key of the plain folder of a base model."""
    return digest_of({"plain": base.identity()})


@functools.lru_cache(maxsize=4)
def _opened(base: BaseModel, trust_remote_code: bool) -> tuple[OpenedBase, dict[str, tuple[int, int]]]:
    """The checked base model, and how its files looked then."""
    local = is_of_content(base.revision)
    try:
        opened = open_base(base.name, base.revision, trust_remote_code, compressed=False)
    except ModelFilesError as error:
        if local:
            # The driver has read it, so it changed since.
            raise BaseChanged(f"the model {base.name} is not the one the study began with: {error}") from error
        # The driver has fetched it, so this is the node's trouble, and may pass.
        raise ConnectionError(str(error)) from error
    if opened.base.revision != base.revision:
        raise BaseChanged(
            f"the model in {opened.folder} is not the one the study began with ({opened.base.revision}, not "
            f"{base.revision})"
        )
    return opened, _stamps(opened.folder)


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of each file of a folder, which may be gone."""
    files = [file for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []
    return {file.name: (file.stat().st_size, file.stat().st_mtime_ns) for file in files}


def write_plain(opened: OpenedBase, out: Path) -> dict[str, Any]:
    """Write the plain model to the empty folder `out`; returns what its manifest says."""
    import torch

    from workers.checkpoints.tensor_files import FLOATS
    from workers.stored_forms.checkpoint import stored_tensors, write_config, write_tensors

    made = opened.conversion
    if made is None:
        raise ValueError(f"{opened.folder} is plain, and used as it is")
    low, wholes = opened.adapter.weights(read_config(opened.folder).get("model_type")) if opened.adapter else ({}, {})

    def tensors() -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in stored_tensors(opened.folder, torch.device("cpu")):
            if (plain := made.names.get(name)) is None:
                continue
            found = wholes.get(plain, tensor)
            if plain.endswith(".weight") and (adapter := low.get(plain.removesuffix(".weight"))) is not None:
                found = adapter.merged(found)
            yield plain, found.to(FLOATS.get(made.tensors[plain].dtype, found.dtype))

    write_tensors(out, tensors())
    for file in plain_files(opened.folder, opened.adapter):
        shutil.copyfile(file, out / file.name)
    write_config(out, dict(made.config))
    return {"plain": opened.base.name, "notes": list(opened.notes)}
