"""The kinds of method, which decide what may follow what in a candidate."""

from __future__ import annotations

from typing import Literal

Kind = Literal["pruner", "sparsifier", "quantizer", "embedding quantizer", "trainer"]
