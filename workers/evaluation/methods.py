"""Carrying a step out, by the module that its method names."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from search_spaces.methods.registry import Step
from workers.plan.compression_context import CompressionContext, Report

Compress = Callable[[Path, Path, Any, CompressionContext], Report]


def compress(parent: Path, out: Path, step: Step, context: CompressionContext) -> Report:
    """Carry the step out: write the compressed checkpoint of `parent` to the empty folder `out`."""
    carry_out: Compress = importlib.import_module(step.module).compress
    return carry_out(parent, out, step, context)


def modules_of(steps: Iterable[Step]) -> frozenset[str]:
    """The dotted names of the modules that carry these steps out."""
    return frozenset(step.module for step in steps)
