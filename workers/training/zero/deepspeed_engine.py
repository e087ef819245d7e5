"""A learner inside DeepSpeed's engine, at one of the ZeRO stages."""

from __future__ import annotations

from typing import Any

import torch

from workers.training.loop.learner import Learner
from workers.training.loop.optimizer import adamw, trainable
from workers.training.zero.configs import Stage, config_for
from workers.training.zero.weights import beyond_bfloat16, set_masters


def wrap_learner(learner: Learner, stage: Stage, device: torch.device, weight_decay: float) -> Any:
    """DeepSpeed's engine around the learner, with AdamW; the default process group must be there."""
    import deepspeed

    # Gloo does without this operator for shared memory, which would be compiled first.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    bfloat16 = device.type == "cuda"
    config = config_for(stage, bfloat16)
    masters = beyond_bfloat16(learner) if bfloat16 else {}
    # Before stage 3 takes the shapes away, by which it tells what decays.
    optimizer = adamw(trainable(learner), weight_decay)
    if stage == 3:
        if bfloat16:
            for parameter in learner.parameters():
                if parameter.is_floating_point():
                    parameter.data = parameter.data.bfloat16()
        # A layer's weights are gathered together, once it begins: asking module by module costs more than it spares.
        deepspeed.utils.set_z3_leaf_modules(learner, list({type(layer) for layer in learner.decoder_layers}))
        # Tensor by tensor: none is there twice.
        deepspeed.zero.Init(module=learner, config_dict_or_path=config)
    engine, *_ = deepspeed.initialize(model=learner, optimizer=optimizer, config=config)
    set_masters(engine, masters)
    return engine
