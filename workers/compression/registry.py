"""The table that joins each method to the module that carries it out, and the version of that code."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from search_spaces.methods import BitsAndBytes, RemoveLayers, RoundToNearest, Step
from workers.compression import bitsandbytes, remove_layers, rtn
from workers.compression.context import CompressionContext, Report

Compress = Callable[[Path, Path, Any, CompressionContext], Report]

COMPRESSORS: dict[type[Step], Compress] = {
    RoundToNearest: rtn.compress,
    BitsAndBytes: bitsandbytes.compress,
    RemoveLayers: remove_layers.compress,
}

NEEDS_CALIBRATION: frozenset[type[Step]] = frozenset({RemoveLayers})


def code_version() -> str:
    """Twelve hex digits over this package's sources: artefacts made by other code are not taken for its own."""
    hasher = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        hasher.update(file.name.encode() + b"\0" + file.read_bytes())
    return hasher.hexdigest()[:12]
