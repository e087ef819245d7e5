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
# Each process first has the whole model on its device, what is trained in float32, and nothing else; then it is shared
# out.
BUILT_BYTES = 4
USABLE_WHILE_BUILT = 0.9
ALLOWED = "DeepSpeed drops adapters and packed weights there without a word (its issues 3620 and 7096)"


def bytes_needed(stage: Stage, trained: int, parameters: int, processes: int, teacher: int = 0) -> float:
    """Bytes on each device before activations. trained: how many of the parameters are trained. teacher: the parameters
    of a live teacher, which is whole on each."""
    weights = WEIGHT_BYTES * (parameters / (processes if stage == 3 else 1) + teacher)
    gradients = GRADIENT_BYTES * trained / (1 if stage == 1 else processes)
    return weights + gradients + STATE_BYTES * trained / processes


def stage_for(
    trained: int, parameters: int, gpu_bytes: float, processes: int, packed: bool = False, teacher: int = 0
) -> Stage:
    """The lowest stage, which communicates least, whose shards fit.

    trained: parameters that are trained. parameters: the learner's, with those. gpu_bytes: the memory of one device.
    packed: weights are held in fewer bits, which stage 3 can't shard. teacher: a live teacher's parameters. Raises
    StudyError when no stage fits.
    """
    built = BUILT_BYTES * trained + WEIGHT_BYTES * (parameters - trained + teacher)
    if built > USABLE_WHILE_BUILT * gpu_bytes:
        raise StudyError(
            f"each device first holds the whole model, {trained:,} trained parameters in float32 and "
            f"{parameters - trained + teacher:,} others: {built / 1e9:.1f} GB, and {USABLE_WHILE_BUILT:.0%} of "
            f"{gpu_bytes / 1e9:.1f} GB is there for it; take larger devices, or train an "
            "adapter (recover)"
        )
    for stage in STAGES:
        if packed and stage == 3:
            continue
        if bytes_needed(stage, trained, parameters, processes, teacher) <= USABLE * gpu_bytes:
            return stage
    most: Stage = 2 if packed else 3
    needed = bytes_needed(most, trained, parameters, processes, teacher)
    why = f"; stage 3 would shard the weights too, but these are packed, and {ALLOWED}" if packed else ""
    raise StudyError(
        f"training {trained:,} of {parameters + teacher:,} parameters takes {needed / 1e9:.1f} GB on each of "
        f"{processes} devices, and {USABLE:.0%} of {gpu_bytes / 1e9:.1f} GB is there for it{why}; take more devices "
        "with --training-gpus, or train an adapter (recover)"
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
