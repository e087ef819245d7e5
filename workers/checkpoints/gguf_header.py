"""What a GGUF file says of itself: its metadata and its table of tensors, read without torch and without weights.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. It is read here because the package `gguf` takes 15 s
over the vocabulary of a model of 150,000 tokens, and tells of a file cut short by a traceback.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from search_spaces.candidate import SAMPLED, WHOLE
from search_spaces.errors import ModelFilesError
from workers.checkpoints.content import LARGE, blocks_of
from workers.runtime.not_data import why_no_file_at

MAGIC = b"GGUF"
VERSIONS = (2, 3)
# Value type -> struct's code; 8 is a string, 9 an array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
DEFAULT_ALIGNMENT = 32
# Part of a model's identity where it was read from GGUF: a number more when the same file becomes other weights.
FORM = "+gguf1"
# Below so many bits a weight lies on a grid that a candidate's may be laid on.
FEW_BITS = 8.0
MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor of the file."""

    name: str
    shape: tuple[int, ...]
    """As torch has it, rows first."""
    type: str
    """ggml's name, such as Q4_K."""
    offset: int
    """Of its first byte, from the file's beginning."""
    bytes: int

    @property
    def bits(self) -> float:
        """Bits a weight, scales included."""
        return 8 * self.bytes / max(prod(self.shape), 1)


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """A file's header."""

    file: Path
    metadata: Mapping[str, Any]
    tensors: tuple[GgufTensor, ...]

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    @property
    def bytes(self) -> int:
        """The file's own."""
        return self.file.stat().st_size

    def tensor(self, name: str) -> GgufTensor | None:
        """The tensor of this name, or None."""
        return next((one for one in self.tensors if one.name == name), None)

    def bytes_by_type(self) -> dict[str, int]:
        """Type -> bytes of the tensors that are stored so, the most first."""
        found: dict[str, int] = {}
        for one in self.tensors:
            found[one.type] = found.get(one.type, 0) + one.bytes
        return dict(sorted(found.items(), key=lambda item: -item[1]))


def is_gguf(name: str) -> bool:
    """Whether a model is named by a GGUF file."""
    return name.lower().endswith(".gguf")


def read_gguf(file: Path) -> GgufHeader:
    """The header of a file of one causal language model; raises ModelFilesError for any other, with the way out."""
    if not file.is_file():
        raise ModelFilesError(f"{file} is not there; check the path")
    if (found := why_no_file_at(file)) is not None:
        what, way_out = found
        raise ModelFilesError(f"{file}: {what}. {way_out.replace('FILE', file.name)}")
    try:
        header = _parsed(file)
    except (struct.error, IndexError, UnicodeDecodeError, OverflowError, MemoryError) as error:
        raise ModelFilesError(f"{file} is cut short or damaged within its header ({error}); fetch it again") from error
    _refuse_other(header)
    end = max((one.offset + one.bytes for one in header.tensors), default=0)
    if end > header.bytes:
        raise ModelFilesError(
            f"{file} is cut short: it has {header.bytes:,} bytes, and its tensors end at {end:,}; fetch it again"
        )
    return header


def gguf_revision(header: GgufHeader) -> str:
    """What the file is known by: all its bytes, or of a large one its size, its header and blocks of each tensor."""
    with header.file.open("rb", buffering=0) as stream:
        if header.bytes <= LARGE:
            return f"{WHOLE}{hashlib.file_digest(stream, 'sha256').hexdigest()[:32]}{FORM}"
        hasher = hashlib.sha256(str(header.bytes).encode())
        hasher.update(stream.read(min(one.offset for one in header.tensors)))
        for one in header.tensors:
            for place, length in blocks_of(one.offset, one.offset + one.bytes):
                stream.seek(place)
                hasher.update(stream.read(length))
    return f"{SAMPLED}{hasher.hexdigest()[:32]}{FORM}"


def is_gguf_revision(revision: str) -> bool:
    """Whether a `BaseModel` of this revision is read from a GGUF file."""
    return revision.endswith(FORM)


def spell_types(header: GgufHeader) -> str:
    """`a GGUF file of 491.4 MB: Q5_0 266.7 MB, Q8_0 146.1 MB, F32 0.3 MB`."""
    types = ", ".join(f"{name} {size / MEGABYTE:,.1f} MB" for name, size in header.bytes_by_type().items())
    return f"a GGUF file of {header.bytes / MEGABYTE:,.1f} MB: {types}"


def spell_grid(header: GgufHeader) -> str | None:
    """What weights on few bits mean for a study; None where the file has none."""
    few = [one for one in header.tensors if len(one.shape) > 1 and one.bits < FEW_BITS]
    if not few:
        return None
    least = int(min(one.bits for one in few))
    return (
        f"weights of the file lie on grids of {least} bits and more: a baseline on a {least}-bit grid makes {least} "
        "bits look free; begin with the model that it was made from where you can have it"
    )


class _Reader:
    """Values one after the other."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self.place = data, 0

    def scalar(self, code: str) -> Any:
        found = struct.unpack_from(f"<{code}", self._data, self.place)[0]
        self.place += struct.calcsize(f"<{code}")
        return found

    def string(self) -> str:
        length = self.scalar("Q")
        if self.place + length > len(self._data):
            raise IndexError(f"a text of {length:,} bytes ends behind the file")
        found = self._data[self.place : self.place + length].decode("utf-8")
        self.place += length
        return found

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            if kind not in _SCALARS:
                raise IndexError(f"a value of the unknown type {kind}")
            return self.scalar(_SCALARS[kind])
        inner, count = self.scalar("I"), self.scalar("Q")
        if count > len(self._data):
            raise IndexError(f"a list of {count:,} values ends behind the file")
        if inner in _SCALARS:
            found = list(struct.unpack_from(f"<{count}{_SCALARS[inner]}", self._data, self.place))
            self.place += struct.calcsize(f"<{count}{_SCALARS[inner]}")
            return found
        return [self.value(inner) for _ in range(count)]


def _parsed(file: Path) -> GgufHeader:
    try:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    except ImportError as error:
        raise ModelFilesError(
            f"reading {file} takes the package gguf, which is not here: {sys.executable} -m pip install gguf"
        ) from error
    size = file.stat().st_size
    with file.open("rb") as stream:
        if size < 24 or stream.read(4) != MAGIC:
            raise ModelFilesError(f"{file} is not a GGUF file: it does not begin with {MAGIC.decode()}")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            reader = _Reader(data)
            reader.place = 4
            version = reader.scalar("I")
            if version not in VERSIONS:
                raise ModelFilesError(
                    f"{file} is GGUF of version {version & 0xFFFF or version}, or of a big-endian machine; "
                    f"versions {VERSIONS[0]} and {VERSIONS[1]} are read: convert the model anew"
                )
            tensors, values = reader.scalar("Q"), reader.scalar("Q")
            metadata = {}
            for _ in range(values):
                key = reader.string()
                metadata[key] = reader.value(reader.scalar("I"))
            infos = []
            for _ in range(tensors):
                name, dimensions = reader.string(), reader.scalar("I")
                shape = tuple(reversed([reader.scalar("Q") for _ in range(dimensions)]))
                infos.append((name, shape, reader.scalar("I"), reader.scalar("Q")))
            alignment = int(metadata.get("general.alignment", DEFAULT_ALIGNMENT))
            start = -(-reader.place // alignment) * alignment
    known = {int(kind): kind for kind in GGMLQuantizationType}
    found = []
    for name, shape, number, offset in infos:
        if number not in known:
            raise ModelFilesError(f"{file}: its tensor {name} is of ggml's type {number}, which is not known here")
        elements, block = GGML_QUANT_SIZES[known[number]]
        found.append(GgufTensor(name, shape, known[number].name, start + offset, prod(shape) // elements * block))
    return GgufHeader(file, metadata, tuple(found))


def _refuse_other(header: GgufHeader) -> None:
    """Raise ModelFilesError for a GGUF file that is no whole model."""
    file, metadata = header.file, header.metadata
    if int(metadata.get("split.count", 0)) > 1:
        raise ModelFilesError(
            f"{file} is one of {metadata['split.count']} parts; put them together first: "
            f"llama-gguf-split --merge {file.name} WHOLE.gguf"
        )
    kind = metadata.get("general.type", "model")
    if kind == "adapter" or any(one.name.endswith((".lora_a", ".lora_b")) for one in header.tensors):
        raise ModelFilesError(
            f"{file} is a LoRA adapter as GGUF; name the adapter's own folder of safetensors, which names its base"
        )
    if kind != "model":
        raise ModelFilesError(f"{file} is of the type {kind!r}, and no model; name the file of the model itself")
    if not header.architecture or not header.tensors:
        raise ModelFilesError(f"{file} holds no model: it names no architecture, or has no tensors")
    if header.tensor("token_embd.weight") is None:
        raise ModelFilesError(f"{file} holds no language model: it has no tensor token_embd.weight")
