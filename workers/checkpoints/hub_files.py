"""Fetching a hub model: what transformers takes of it, and nothing else that lies in its repository."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from search_spaces.errors import ModelFilesError
from workers.checkpoints.adapters import ADAPTER_FILES, ROOT_ADAPTER_CONFIG, ROOT_ADAPTER_WEIGHTS
from workers.checkpoints.model_files import (
    OWN_WEIGHTS,
    SINGLE_WEIGHTS,
    SMALL_FILES,
    index_of,
    indexed_files,
    refuse_pointers,
)

# `auto_map` names modules in the root. None of it runs unless it is asked for.
CODE = "*.py"

# Looks at the folder of the small files before its weights are fetched, and may refuse it.
Look = Callable[[Path], None]


def fetch(
    name: str, revision: str | None = None, look: Look = lambda folder: None, weights: bool = True
) -> tuple[Path, str]:
    """The folder of a hub model's snapshot, and its commit: the small files first, then the weights that they name.

    weights: whether to fetch these. Raises ModelFilesError when it can't be fetched, and what `look` raises.
    """
    folder = _snapshot(name, revision, [*SMALL_FILES, *ADAPTER_FILES, ROOT_ADAPTER_CONFIG, CODE])
    look(folder)
    commit = folder.name
    if not weights:
        return folder, commit
    _snapshot(name, commit, [SINGLE_WEIGHTS])
    if not (folder / SINGLE_WEIGHTS).is_file():
        index = index_of(folder)
        _snapshot(name, commit, indexed_files(folder / index) if index else [OWN_WEIGHTS, ROOT_ADAPTER_WEIGHTS])
    refuse_pointers(folder)
    return folder, commit


def _snapshot(name: str, revision: str | None, files: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=files))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise ModelFilesError(
            f"the hub model {name} (revision {revision or 'main'}) could not be fetched: {error}. "
            "Check the id and the network, `hf auth login` for a gated model, or name a local folder"
        ) from error
