"""Which ZeRO stage a training needs, and DeepSpeed's configuration for it (no torch).

ZeRO (https://arxiv.org/abs/1910.02054): stage 1 shards the optimizer's state over the processes, stage 2 the gradients
as well, and stage 3 also the weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from search_spaces.errors import StudyError

Stage = Literal[1, 2, 3]
STAGES: tuple[Stage, ...] = (1, 2, 3)

# Bytes a parameter: bfloat16 weights; gradients, added up in float32; the float32 master copy and AdamW's two moments.
# On a CPU all of it is float32, and the master copy is the weights: 16 bytes instead of 18.
WEIGHT_BYTES = 2
GRADIENT_BYTES = 4
STATE_BYTES = 12
# The rest of a device's memory is for activations, logits and communication buffers.
USABLE = 0.7
ALLOWED = "DeepSpeed drops adapters and packed weights there without a word (its issues 3620 and 7096)"


def bytes_needed(stage: Stage, trained: int, parameters: int, processes: int) -> float:
    """Bytes on each device before activations. trained: how many of the parameters are trained."""
    weights = WEIGHT_BYTES * parameters / (processes if stage == 3 else 1)
    gradients = GRADIENT_BYTES * trained / (1 if stage == 1 else processes)
    return weights + gradients + STATE_BYTES * trained / processes


def stage_for(trained: int, parameters: int, gpu_bytes: float, processes: int, packed: bool = False) -> Stage:
    """The lowest stage, which communicates least, whose shards fit.

    trained: parameters that are trained. parameters: all that lie on a device, those and a live teacher's included.
    gpu_bytes: the memory of one device. packed: weights are held in fewer bits, which stage 3 can't shard. Raises
    StudyError when no stage fits.
    """
    for stage in STAGES:
        if packed and stage == 3:
            continue
        if bytes_needed(stage, trained, parameters, processes) <= USABLE * gpu_bytes:
            return stage
    most: Stage = 2 if packed else 3
    needed = bytes_needed(most, trained, parameters, processes)
    why = f"; stage 3 would shard the weights too, but these are packed, and {ALLOWED}" if packed else ""
    raise StudyError(
        f"training {trained:,} of {parameters:,} parameters takes {needed / 1e9:.1f} GB on each of {processes} "
        f"devices, and {USABLE:.0%} of {gpu_bytes / 1e9:.1f} GB is there for it{why}; take more devices with "
        "--training-gpus, or train an adapter (recover)"
    )


def refuse_packed(stage: Stage, packed: bool) -> None:
    """Raise StudyError for packed or bitsandbytes weights at stage 3."""
    if packed and stage == 3:
        raise StudyError(f"ZeRO stage 3 can't train on packed or bitsandbytes weights: {ALLOWED}; take stage 2")


def config_for(stage: Stage, bfloat16: bool) -> dict[str, Any]:
    """DeepSpeed's configuration: the stage's file. bfloat16: weights in bfloat16 beside a float32 master copy, and
    gradients added up in float32; else everything is float32."""
    config: dict[str, Any] = json.loads(Path(__file__).with_name(f"zero{stage}.json").read_text(encoding="utf-8"))
    if bfloat16:
        config |= {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}}
    return config
