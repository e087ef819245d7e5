"""What each width of each group of weights does to a model: three scores, taken once and kept for every budget.

error: Σ (W - Ŵ)² / Σ W², the share of its weights that rounding takes: what layer-wise allocations add up, and how they
lose to uniform widths (EvoPress, https://arxiv.org/abs/2410.14649). fisher: Σ_r g²_r Δ_r H Δ_rᵀ (see
workers/calibration/fisher.py). kl: the mean divergence of the model in which only that group is replaced.

The kl of 8 and of 4 bits is not measured: it is the kl of 3 bits times the ratio of their fisher scores, since both
grow with the square of small errors. In float32 on groups of models of 5 million weights, that of 8 bits was within
10 % of what 4 bits tell, and that of 4 bits between 0.84 and 1.04 times what 3 bits tell, 0.94 in the median. In
bfloat16 the kl of 8 bits, and of a large model's single groups that of 4, is near what the type rounds off.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from search_spaces.candidate import digest_of
from search_spaces.errors import StudyError
from search_spaces.methods.quantizers import MixedWidths
from search_spaces.sizes.tensor_table import Checkpoint, layer_of
from workers.calibration.calibrate import calibration_identity, calibration_sequences, statistics_of
from workers.calibration.damping import Hear
from workers.calibration.divergence import MEASURING_TOKENS, Divergence, measuring_batches
from workers.calibration.fisher import OutputFisher, embeddings_error, fisher_error, output_fisher
from workers.calibration.sequences import batches
from workers.calibration.statistics import Statistics
from workers.compression.mixed_widths.group_quantizing import quantize_group, replace_weights
from workers.compression.mixed_widths.quantized_groups import QuantizedGroups
from workers.compression.mixed_widths.width_groups import AS_IS, WidthGroup, width_groups
from workers.plan.code_version import code_version
from workers.plan.compression_context import CompressionContext
from workers.runtime.artefact_store import ArtefactStore
from workers.runtime.working import working
from workers.stored_forms.integer_grid import QuantizedWeight
from workers.stored_forms.single_weights import StoredWeights

SCORES = ("kl", "fisher", "error")
FISHER_TOKENS = {"cuda": 16_384, "cpu": 4096}
# A backward pass keeps the activations of all layers, so its batches are small.
FISHER_BATCH_TOKENS = 1024
PROFILE = "profile.json"
# The widths whose kl is not measured, and the one that they are told from.
TOLD, TOLD_FROM = (8, 4), 3

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """One group's scores: score -> width -> harm, 0 for weights left as they are."""

    group: WidthGroup
    scores: Mapping[str, Mapping[int, float]]


def profile_of(
    parent: Path,
    checkpoint: Checkpoint,
    step: MixedWidths,
    context: CompressionContext,
    quantized: QuantizedGroups,
    hear: Hear,
) -> list[Sensitivity]:
    """The parent's profile, from the store or taken now; raises StudyError without a store or without enough pairs.

    step: whose groups and zero points the weights have. quantized: keeps what a profile that is taken now quantizes.
    hear: is told of its dampings.
    """
    if context.store is None:
        raise StudyError("mixed widths need an artefact store to keep their profile in")
    key = "profile-" + digest_of(
        {
            "parent": context.parent_key,
            "group_size": step.group_size,
            "zero_points": step.zero_points,
            "measuring_tokens": MEASURING_TOKENS[context.device.type],
            "fisher_tokens": FISHER_TOKENS[context.device.type],
            "code": code_version([__name__]),
            **calibration_identity(context),
        }
    )

    def build(folder: Path) -> dict[str, Any]:
        rows = _build(parent, checkpoint, step, context, quantized, hear)
        (folder / PROFILE).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        return {"groups": len(rows), "group_size": step.group_size}

    artefact = ArtefactStore(context.store).get(key, build)
    rows = json.loads((artefact.path / PROFILE).read_text(encoding="utf-8"))
    return [_from_json(row) for row in rows]


def _build(
    parent: Path,
    checkpoint: Checkpoint,
    step: MixedWidths,
    context: CompressionContext,
    quantized: QuantizedGroups,
    hear: Hear,
) -> list[dict[str, Any]]:
    from workers.loading.load import load_model, load_tokenizer

    statistics = statistics_of(parent, context)
    groups = width_groups(checkpoint, statistics, step)
    tokenizer = load_tokenizer(parent, context.trust_remote_code)
    tokens = min(FISHER_TOKENS[context.device.type], context.calibration_tokens)
    fewer = replace(context, calibration_tokens=tokens)
    shown = batches(calibration_sequences(tokenizer, fewer), FISHER_BATCH_TOKENS)
    model = load_model(parent, context.whole_on, context.trust_remote_code)
    fisher = output_fisher(model, shown)
    divergence = Divergence(model, measuring_batches(tokenizer, context))
    divergence.remember(model)
    weights = StoredWeights(parent, context.device)
    profile = _Profiler(
        model=model,
        fisher=fisher,
        divergence=divergence,
        weights=weights,
        statistics=statistics,
        step=step,
        quantized=quantized,
        hear=hear,
    )
    rows = []
    for number, group in enumerate(groups, start=1):
        working("measuring widths, group", number, len(groups))
        rows.append(_to_json(profile.of(group)))
    return rows


@dataclass(frozen=True, slots=True)
class _Profiler:
    model: Any
    fisher: OutputFisher
    divergence: Divergence
    weights: StoredWeights
    statistics: Statistics
    step: MixedWidths
    quantized: QuantizedGroups
    hear: Hear

    def of(self, group: WidthGroup) -> Sensitivity:
        scores: dict[str, dict[int, float]] = {score: dict.fromkeys(group.bytes, 0.0) for score in SCORES}
        found: dict[int, dict[str, QuantizedWeight]] = {bits: {} for bits in group.bytes if bits != AS_IS}
        whole = 0.0
        for name, weight, widths in quantize_group(
            group, tuple(group.bytes), self.weights, self.statistics, self.step, self.hear
        ):
            whole += float(weight.float().square().sum(dtype=torch.float64))
            for bits, quantized in widths.items():
                change = quantized.dequantized() - weight.float()
                scores["error"][bits] += float(change.square().sum(dtype=torch.float64))
                scores["fisher"][bits] += self._fisher_error(name, group, change)
                found[bits][name] = quantized
        scores["error"] = {bits: error / (whole or 1.0) for bits, error in scores["error"].items()}
        first = layer_of(group.weights[0]) or 0
        for bits, quantized_weights in found.items():
            self.quantized.keep(group.name, bits, quantized_weights)
            if bits in TOLD and not group.is_embeddings:
                continue
            dense = {name: quantized.dequantized() for name, quantized in quantized_weights.items()}
            with replace_weights(self.model, dense):
                scores["kl"][bits] = self.divergence.of(self.model, first)
        if not group.is_embeddings:
            fisher = scores["fisher"]
            for bits in TOLD:
                scores["kl"][bits] = scores["kl"][TOLD_FROM] * fisher[bits] / (fisher[TOLD_FROM] or 1.0)
        _log.info("profiled %s", group.name)
        return Sensitivity(group, scores)

    def _fisher_error(self, name: str, group: WidthGroup, change: torch.Tensor) -> float:
        layer = layer_of(name)
        if layer is None:
            tied = len(group.weights) == 1
            role = "tied" if tied else "head" if "lm_head" in name else "lookup"
            return embeddings_error(change, self.fisher, role)
        within = name.split("layers.", 1)[1]
        return fisher_error(change, self.statistics.hessian(name, change.device), self.fisher.outputs[within])


def _to_json(one: Sensitivity) -> dict[str, Any]:
    return {
        "name": one.group.name,
        "weights": one.group.weights,
        "widths": [
            {"bits": bits, "bytes": size, **{score: one.scores[score][bits] for score in SCORES}}
            for bits, size in one.group.bytes.items()
        ],
    }


def _from_json(row: Mapping[str, Any]) -> Sensitivity:
    sizes = {entry["bits"]: entry["bytes"] for entry in row["widths"]}
    scores = {score: {entry["bits"]: entry[score] for entry in row["widths"]} for score in SCORES}
    return Sensitivity(WidthGroup(row["name"], tuple(row["weights"]), sizes), scores)
