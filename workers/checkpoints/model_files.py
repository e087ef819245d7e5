"""Where a model's files are, which of them are needed to run it, and what its checkpoint holds, read without torch."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from search_spaces.errors import ModelFilesError
from search_spaces.sizes.tensor_table import Checkpoint, Tensor
from workers.checkpoints.adapters import ADAPTER_FILES, ROOT_ADAPTER_CONFIG, ROOT_ADAPTER_WEIGHTS
from workers.runtime.not_data import why_no_file_at

CONFIG = "config.json"
SINGLE_WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
OWN_WEIGHTS, OWN_INDEX = "packed.safetensors", "packed.safetensors.index.json"
WEIGHTS_INDEXES = (WEIGHTS_INDEX, OWN_INDEX)
TOKENIZER = "tokenizer.json"
# What tokenizer.json was made from; it stands for them.
TOKENIZER_SOURCES = ("tokenizer.model", "vocab.json", "merges.txt")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
SMALL_FILES = (CONFIG, "generation_config.json", *WEIGHTS_INDEXES, *TOKENIZER_FILES)
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.bin.index.json")


def refuse_single_file(name: str) -> None:
    """Raise ModelFilesError for a file where a model's folder is asked for."""
    if name.lower().endswith(".gguf"):
        raise ModelFilesError(
            f"{name} is a GGUF file, whose weights have other names and formats: mtpareto search, measure and "
            "translate make a folder of it first; name such a folder, or that of the model that it was made from"
        )
    if Path(name).is_file():
        raise ModelFilesError(
            f"{name} is a file; a model is the folder that holds its {CONFIG}, tokenizer and *.safetensors"
        )


def refuse_pointers(folder: Path) -> None:
    """Raise ModelFilesError where a file of the model is a Git LFS pointer or the page of a failed download."""
    single = (SINGLE_WEIGHTS, OWN_WEIGHTS, ROOT_ADAPTER_WEIGHTS)
    _refuse_pointers(folder, (*SMALL_FILES, *ADAPTER_FILES, ROOT_ADAPTER_CONFIG, *single))
    if (index := index_of(folder)) is not None:
        _refuse_pointers(folder, indexed_files(folder / index))


def _refuse_pointers(folder: Path, names: Iterable[str]) -> None:
    for file in (folder / name for name in sorted(names)):
        if (found := why_no_file_at(file)) is not None:
            what, way_out = found
            raise ModelFilesError(f"{file}: {what}. {way_out.replace('FILE', file.name)}")


def needed_files(folder: Path) -> list[Path]:
    """Every file that running the model needs: config, tokenizer, code of its own, safetensors weights and their index,
    and an adapter's files where one is kept apart.

    Raises ModelFilesError when there is no config or no weights.
    """
    return [*small_files(folder), *weight_files(folder)]


def small_files(folder: Path) -> list[Path]:
    """The needed files but the weights. Raises ModelFilesError when there is no config."""
    refuse_no_config(folder)
    index = index_of(folder)
    names = [name for name in SMALL_FILES if name not in WEIGHTS_INDEXES or name == index]
    beside = [folder / name for name in (*names, *ADAPTER_FILES) if (folder / name).is_file()]
    return beside + code_files(folder)


def refuse_no_config(folder: Path) -> None:
    """Raise ModelFilesError for a folder without a config.json."""
    if (folder / CONFIG).is_file():
        return
    if found := sorted(folder.glob("*.gguf")):
        raise ModelFilesError(f"{folder} has no {CONFIG}, and GGUF files: name one of them, such as {found[0]}")
    raise ModelFilesError(f"{folder} has no {CONFIG}; a model folder is what `save_pretrained` writes")


def code_files(folder: Path) -> list[Path]:
    """The modules of a model that comes with code of its own, which `auto_map` in a config names; else none."""
    configs = (CONFIG, "tokenizer_config.json")
    texts = [(folder / name).read_text(encoding="utf-8") for name in configs if (folder / name).is_file()]
    return sorted(folder.glob("*.py")) if any('"auto_map"' in text for text in texts) else []


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that transformers takes: model.safetensors, else those of its index in their order; of a
    folder in this project's own form packed.safetensors, or those of its index. Others are left alone.

    Raises ModelFilesError when there are none, or one is missing.
    """
    index = index_of(folder)
    if index is not None:
        names = indexed_files(folder / index)
    else:
        names = [name for name in (SINGLE_WEIGHTS, OWN_WEIGHTS) if (folder / name).is_file()][:1]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ModelFilesError(f"{folder} lacks weights: {', '.join(missing)}, which {index} names; fetch them again")
    if not names:
        raise ModelFilesError(_without_weights(folder))
    return [folder / name for name in names]


def index_of(folder: Path) -> str | None:
    """The name of the index that says which weights are taken; None where one file holds them all."""
    for single, index in ((SINGLE_WEIGHTS, WEIGHTS_INDEX), (OWN_WEIGHTS, OWN_INDEX)):
        if (folder / single).is_file():
            return None
        if (folder / index).is_file():
            return index
    return None


def indexed_files(index: Path) -> list[str]:
    """The names of the files that an index of weights names."""
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ModelFilesError(f"{index} is not an index of weights: {error}; fetch it again") from error


def _without_weights(folder: Path) -> str:
    if any(file for pattern in PICKLED for file in folder.glob(pattern)):
        return (
            f"{folder} has its weights as pickles only, which are never loaded; convert it once with "
            "AutoModelForCausalLM.from_pretrained(…).save_pretrained(FOLDER) and name that folder"
        )
    others = sorted(file.name for file in folder.glob("*.safetensors"))
    if others:
        return (
            f"{folder} lacks weights that transformers takes: neither {SINGLE_WEIGHTS} nor {WEIGHTS_INDEX}, but "
            f"{', '.join(others[:3])}. Rename the one that is meant to {SINGLE_WEIGHTS}"
        )
    return f"{folder} lacks weights: neither {SINGLE_WEIGHTS} nor {WEIGHTS_INDEX}"


def left_alone(folder: Path) -> list[str]:
    """The names of further files of weights in the folder, which nothing here loads, copies or counts."""
    taken = {file.relative_to(folder).as_posix() for file in weight_files(folder)} | set(ADAPTER_FILES)
    found = [file for end in ("safetensors", "gguf") for deep in ("", "*/") for file in folder.glob(f"{deep}*.{end}")]
    names = {file.relative_to(folder).as_posix() for file in found}
    return sorted(name for name in names - taken if not name.startswith("."))


@contextmanager
def needed_alone(folder: Path) -> Iterator[Path]:
    """The folder as transformers is to see it: itself, or one of links to its needed files where an adapter lies in its
    root beside whole weights, which transformers would put on top of these.

    Such an adapter is how the weights were made (ALMA-7B-R's), and what is measured is what is compressed.
    """
    if not (folder / ROOT_ADAPTER_CONFIG).is_file():
        yield folder
        return
    with tempfile.TemporaryDirectory() as links:
        for file in needed_files(folder):
            link = Path(links) / file.relative_to(folder)
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(file.resolve())
        yield Path(links)


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
    return Checkpoint(
        tensors=tensors,
        config=read_config(folder),
        other_bytes=sum(file.stat().st_size for file in small_files(folder)),
        header_bytes=header_bytes,
        tokenizer_bytes=size_of(folder / TOKENIZER),
        tokenizer_source_bytes=sum(size_of(folder / name) for name in TOKENIZER_SOURCES),
    )


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
        raise ModelFilesError(f"{file} is not a safetensors file, or is cut short; fetch it again") from error
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


def config_text(config: Mapping[str, Any]) -> str:
    """config.json, in the form transformers writes."""
    return json.dumps(config, indent=2, sort_keys=True) + "\n"


def same_bytes(folder: Path, first: str, second: str) -> bool:
    """Whether two of the folder's tensors are of one type and shape and hold the same."""
    places: dict[str, tuple[Path, int, dict[str, Any]]] = {}
    for file in weight_files(folder):
        entries, start = read_header(file)
        places |= {name: (file, start, entries[name]) for name in (first, second) if name in entries}
    one, other = places[first], places[second]
    if any(one[2][key] != other[2][key] for key in ("dtype", "shape")):
        return False
    return all(left == right for left, right in zip(_pieces(*one), _pieces(*other), strict=True))


def _pieces(file: Path, start: int, entry: Mapping[str, Any], size: int = 1 << 24) -> Iterator[bytes]:
    begin, end = entry["data_offsets"]
    with file.open("rb") as stream:
        stream.seek(start + begin)
        for place in range(begin, end, size):
            yield stream.read(min(size, end - place))


def size_of(file: Path) -> int:
    """The file's bytes; 0 where there is none."""
    return file.stat().st_size if file.is_file() else 0


def context_length(config: dict[str, Any]) -> int | None:
    """How many tokens the model's positions reach, or None when its config does not say."""
    inner = config.get("text_config", config)
    value = inner.get("max_position_embeddings")
    return int(value) if value else None
