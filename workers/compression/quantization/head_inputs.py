"""What enters a model's output head where a token of a translation is predicted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from search_spaces.errors import StudyError
from workers.calibration.calibrate import calibration_sequences
from workers.calibration.capture import add_products
from workers.calibration.divergence import predicting, target_logits
from workers.calibration.sequences import Shown, batches
from workers.plan.compression_context import CompressionContext

# Of calibration sequences, by the device; about two in five tokens are of translations.
TOKENS = {"cuda": 32_768, "cpu": 8192}
BATCH_TOKENS = 4096


@torch.inference_mode()
def head_hessian(parent: Path, context: CompressionContext) -> torch.Tensor:
    """Mean over those positions of x xᵀ, x being the hidden state: float32 (width, width), on the context's device.

    Raises StudyError without calibration pairs, ValueError for states that are not finite.
    """
    from workers.loading.load import load_model, load_tokenizer

    tokenizer = load_tokenizer(parent, context.trust_remote_code)
    sequences = _spread(calibration_sequences(tokenizer, context), TOKENS[context.device.type])
    model: Any = load_model(parent, str(context.device), context.trust_remote_code)
    entered: list[torch.Tensor] = []
    total: torch.Tensor | None = None
    count = 0
    # The whole model is called: packed weights are decoded on the way into it.
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, given: entered.append(given[0]))
    for batch in batches(sequences, BATCH_TOKENS):
        target_logits(model, batch)
        states = entered.pop()
        rows = states[predicting(batch).to(states.device)]
        if total is None:
            total = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float32, device=rows.device)
        add_products(total, rows)
        count += len(rows)
    hook.remove()
    if total is None or not count:
        raise StudyError("there is no token of a translation to calibrate the head on; name pairs with --calibration")
    if not torch.isfinite(total).all():
        raise ValueError("what enters the head is not finite on the calibration set; the model is damaged")
    return total / count


def _spread(sequences: list[Shown], tokens: int) -> list[Shown]:
    """Sequences, evenly spread, that hold about so many tokens; all where they hold fewer."""
    return sequences[:: max(sum(len(sequence.ids) for sequence in sequences) // tokens, 1)]
