"""The statistics of a checkpoint: known from before, or the first time from one pass over calibration pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from search_spaces.candidate import digest_of
from search_spaces.errors import StudyError
from search_spaces.sizes.tensor_table import layer_of
from workers.calibration.capture import capture, linear_layers
from workers.calibration.kept_statistics import KEPT
from workers.calibration.pair_parts import parts
from workers.calibration.sequences import Shown, balance_pairs, batches, plain
from workers.calibration.statistics import (
    LayerStatistics,
    Statistics,
    read_statistics,
    upper_halves,
    write_statistics,
)
from workers.checkpoints.model_files import read_checkpoint
from workers.plan.code_version import code_version
from workers.plan.compression_context import CompressionContext
from workers.runtime.artefact_store import ArtefactStore
from workers.runtime.working import working
from workers.translation.prompts import request_identity


def statistics_of(parent: Path, context: CompressionContext) -> Statistics:
    """The parent's statistics; raises StudyError without pairs and for a layer that can't be calibrated.

    This process keeps them in memory. Where that is too small they are in the artefact store.
    """
    if context.store is None:
        raise StudyError("calibration statistics need an artefact store, for where memory can't hold them")
    key, store = statistics_key(context), ArtefactStore(context.store)
    # A key is one of its store.
    name = str(context.store / key)
    if (kept := KEPT.get(name)) is not None:
        return kept
    if (found := store.find(key)) is None:
        layers = _taken(parent, context)
        first = KEPT.take(name, layers)
        if first is None:
            return KEPT.found[name]
        found = store.get(key, lambda folder: _written(folder, chain(first, layers)))
    return read_statistics(found.path)


def statistics_key(context: CompressionContext) -> str:
    """The store's key: everything that decides the statistics."""
    code = code_version([__name__])
    return "statistics-" + digest_of({"parent": context.parent_key, "code": code, **calibration_identity(context)})


def calibration_identity(context: CompressionContext) -> dict[str, Any]:
    """What decides which tokens the model is shown."""
    pairs = [[pair.langs, pair.source, pair.references[0]] for pair in context.calibration]
    return {
        "pairs": digest_of(pairs),
        "text": digest_of(list(context.calibration_text)),
        "tokens": context.calibration_tokens,
        **request_identity(context.prompt, {pair.langs for pair in context.calibration}),
        "seed": context.seed,
        "dtype": "bfloat16" if context.device.type == "cuda" else "float32",
    }


def calibration_sequences(tokenizer: Any, context: CompressionContext) -> list[Shown]:
    """The sequences that statistics are taken over: pairs, or running text where the study names one."""
    if context.calibration_text:
        return plain(context.calibration_text, tokenizer, context.calibration_tokens)
    if not context.calibration:
        raise StudyError("this method needs calibration pairs; name a file of them with --calibration")
    chosen, _ = parts(context.calibration, context.seed)
    return balance_pairs(chosen, tokenizer, context.prompt, context.calibration_tokens)


def _written(folder: Path, layers: Iterable[LayerStatistics]) -> dict[str, Any]:
    write_statistics(folder, layers)
    return {}


def _taken(parent: Path, context: CompressionContext) -> Iterator[LayerStatistics]:
    """One pass over the parent, layer by layer."""
    from workers.loading.load import load_for_calibration, load_tokenizer

    sequences = calibration_sequences(load_tokenizer(parent, context.trust_remote_code), context)
    model = load_for_calibration(parent, context.device, context.trust_remote_code)
    for layer in model.get_decoder().layers:
        # Refuses a layer that can't be calibrated before the pass over all of them begins.
        linear_layers(layer)
    prefix = _layers_prefix(read_checkpoint(parent).tensors)
    every = len(model.get_decoder().layers)
    for layer in upper_halves(capture(model, batches(sequences), context.device), prefix, every):
        working("calibrating, layer", layer.index + 1, every)
        yield layer
    if context.device.type == "cuda":
        torch.cuda.empty_cache()


def _layers_prefix(names: Iterable[str]) -> str:
    """What stands before the layer's number in the names of stored tensors, such as `model.layers`."""
    name = next(name for name in names if layer_of(name) is not None)
    return name.split(f".{layer_of(name)}.", 1)[0]
