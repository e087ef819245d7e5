"""Where the files of a model are: the folder that a path names, or that of a hub model, fetched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from search_spaces.candidate import BaseModel
from search_spaces.errors import ModelFilesError
from workers.checkpoints.content import content_revision
from workers.checkpoints.model_files import refuse_pointers, refuse_single_file


def resolve(name: str, revision: str | None = None, trust_remote_code: bool = False) -> tuple[BaseModel, Path]:
    """The base model that a local folder or hub id names, and the folder its files lie in (downloaded if need be).

    trust_remote_code: whether code that comes with the model runs, and so decides what its bytes mean. Raises
    ModelFilesError when it can't be found or holds no safetensors weights.
    """
    folder, commit = locate_model(name, revision)
    return BaseModel(name, commit or content_revision(folder, trust_remote_code)), folder


def locate_model(
    name: str,
    revision: str | None = None,
    look: Callable[[Path], None] = lambda folder: None,
    weights: bool = True,
) -> tuple[Path, str | None]:
    """The folder that a local folder or hub id names, and the hub's commit, None for a local one.

    look: sees the folder before any weights are downloaded, and may refuse it. weights: whether they are downloaded.
    Raises ModelFilesError when it can't be found, and what `look` raises.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if revision is not None:
            raise ModelFilesError(
                f"{name} is a local folder, which has no revision {revision!r}; leave the revision out"
            )
        refuse_pointers(path.resolve())
        look(path.resolve())
        return path.resolve(), None
    refuse_single_file(name)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelFilesError(f"{name} is neither a folder here nor a hub id (owner/name); check the path")
    from workers.checkpoints.hub_files import fetch

    return fetch(name, revision, look, weights)
