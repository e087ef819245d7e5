"""Where a model's files are, which of them are needed to run it, and what its checkpoint holds, read without torch."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from search_spaces.candidate import BaseModel
from search_spaces.checkpoint import Checkpoint, Tensor
from search_spaces.errors import ModelFilesError
from workers.adapter_folder import ADAPTER_FILES
from workers.not_data import why_no_file_at

CONFIG = "config.json"
WEIGHTS_INDEXES = ("model.safetensors.index.json", "packed.safetensors.index.json")
TOKENIZER = "tokenizer.json"
# What tokenizer.json was made from; it stands for them.
TOKENIZER_SOURCES = ("tokenizer.model", "vocab.json", "merges.txt")
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json",
)  # fmt: skip
SMALL_FILES = (CONFIG, "generation_config.json", *WEIGHTS_INDEXES, *TOKENIZER_FILES)
PICKLED_WEIGHTS = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def resolve(name: str, revision: str | None = None) -> tuple[BaseModel, Path]:
    """The base model that a local folder or hub id names, and the folder its files lie in (downloaded if need be).

    Raises ModelFilesError when it can't be found or holds no safetensors weights.
    """
    folder = Path(name)
    if folder.is_dir():
        if revision is not None:
            raise ModelFilesError(
                f"{name} is a local folder, which has no revision {revision!r}; leave the revision out"
            )
        folder = folder.resolve()
        refuse_pointers(folder)
        return BaseModel(name, f"sha256:{_content_hash(folder)}"), folder
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelFilesError(f"{name} is no folder here, and no hub id (owner/name) either; check the path")
    return _from_hub(name, revision)


def refuse_pointers(folder: Path) -> None:
    """Raise ModelFilesError where a file of the model is a Git LFS pointer or the page of a failed download."""
    for file in sorted({*(folder / name for name in SMALL_FILES), *folder.glob("*.safetensors")}):
        if (found := why_no_file_at(file)) is not None:
            what, way_out = found
            raise ModelFilesError(f"{file}: {what}. {way_out.replace('FILE', file.name)}")


def needed_files(folder: Path) -> list[Path]:
    """Every file that running the model needs: config, tokenizer, safetensors weights and their index, and an adapter's
    files where one is kept apart.

    Raises ModelFilesError when there is no config or no weights.
    """
    if not (folder / CONFIG).is_file():
        raise ModelFilesError(f"{folder} has no {CONFIG}; a model folder is what `save_pretrained` writes")
    beside = [folder / name for name in (*SMALL_FILES, *ADAPTER_FILES) if (folder / name).is_file()]
    return beside + weight_files(folder)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files in the order of their index, or the only one there is."""
    index = next((folder / name for name in WEIGHTS_INDEXES if (folder / name).is_file()), None)
    if index is not None:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        files = [folder / name for name in names]
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files and any((folder / name).is_file() for name in PICKLED_WEIGHTS):
        raise ModelFilesError(
            f"{folder} has its weights as pickles only, which are never loaded; convert it once with "
            "AutoModelForCausalLM.from_pretrained(…).save_pretrained(FOLDER) and name that folder"
        )
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise ModelFilesError(f"{folder} lacks weights: {', '.join(missing) or 'no *.safetensors file'}")
    return files


def bytes_on_disk(folder: Path) -> int:
    """Bytes of all files needed to run the model."""
    return sum(file.stat().st_size for file in needed_files(folder))


def read_checkpoint(folder: Path) -> Checkpoint:
    """The folder's tensor table, config and byte counts; reads headers only, never weights."""
    tensors: dict[str, Tensor] = {}
    header_bytes = 0
    for file in weight_files(folder):
        entries, size = read_header(file)
        header_bytes += size
        tensors.update({name: Tensor(entry["dtype"], tuple(entry["shape"])) for name, entry in entries.items()})
    weights = sum(file.stat().st_size for file in weight_files(folder))
    return Checkpoint(
        tensors, read_config(folder), bytes_on_disk(folder) - weights, header_bytes,
        _size(folder / TOKENIZER), sum(_size(folder / name) for name in TOKENIZER_SOURCES),
    )  # fmt: skip


def read_header(file: Path) -> tuple[dict[str, Any], int]:
    """The tensors a safetensors file names, in file order, and the header's bytes.

    Format: https://huggingface.co/docs/safetensors (8 bytes of little-endian length, then JSON).
    """
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        text = stream.read(length) if 0 < length <= file.stat().st_size - 8 else b""
    try:
        entries = json.loads(text)
    except ValueError as error:
        raise ModelFilesError(f"{file} is no safetensors file, or is cut short; fetch it again") from error
    entries.pop("__metadata__", None)
    ordered = sorted(entries.items(), key=lambda item: item[1]["data_offsets"])
    return dict(ordered), 8 + length


def read_config(folder: Path) -> dict[str, Any]:
    """The parsed config.json."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFilesError(f"{folder / CONFIG} can't be read as JSON: {error}") from error
    if not isinstance(config, dict):
        raise ModelFilesError(f"{folder / CONFIG} holds no JSON object")
    return config


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def context_length(config: dict[str, Any]) -> int | None:
    """How many tokens the model's positions reach, or None when its config does not say."""
    inner = config.get("text_config", config)
    value = inner.get("max_position_embeddings")
    return int(value) if value else None


def _content_hash(folder: Path) -> str:
    hasher = hashlib.sha256()
    for file in sorted(needed_files(folder)):
        hasher.update(file.relative_to(folder).as_posix().encode() + b"\0")
        with file.open("rb") as stream:
            hasher.update(hashlib.file_digest(stream, "sha256").digest())
    return hasher.hexdigest()[:32]


def _from_hub(name: str, revision: str | None) -> tuple[BaseModel, Path]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*SMALL_FILES, "*.safetensors"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise ModelFilesError(
            f"the hub model {name} (revision {revision or 'main'}) could not be fetched: {error}. "
            "Check the id and the network, `hf auth login` for a gated model, or name a local folder"
        ) from error
    refuse_pointers(folder)
    needed_files(folder)
    return BaseModel(name, folder.name), folder
