"""How far a model's next-token distributions lie from a reference's, on translations that it is shown."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from search_spaces.errors import StudyError
from workers.calibration.layer_inputs import LayerInputs
from workers.calibration.pair_parts import parts
from workers.calibration.sequences import Batch, balance_pairs, batches
from workers.plan.compression_context import CompressionContext
from workers.runtime.gpu_memory import free_memory

# What divergence is measured on, by the device: on a CPU most of the time of mixed widths is these runs.
MEASURING_TOKENS = {"cuda": 4096, "cpu": 2048}
# Logits of so many tokens are made at a time.
MEASURING_BATCH_TOKENS = 2048
# Larger references are kept as float16. Its 11 bits leave a KL of the model with itself below 1e-5 even for flat
# distributions over 10^5 tokens, where bfloat16's 8 bits leave 1e-4.
FLOAT32_BYTES = 2 * 2**30
# The share of a GPU's free memory that a reference may take; a larger one is kept in host memory.
DEVICE_SHARE = 0.25
# exp(-1e4) is 0, and float16 reaches to -65504: log-probabilities below are no different.
LEAST_LOG_PROBABILITY = -1e4
NOT_FINITE = "the model's logits on the calibration set are not finite"
_ROWS = 256


class Divergence:
    """The reference model's log-probabilities over the vocabulary, at the positions that predict target tokens.

    Raises StudyError when the batches hold no target token, ValueError when the model's logits are not finite.
    """

    def __init__(self, model: Any, batches: Sequence[Batch]) -> None:
        self._batches = batches
        self.tokens = sum(int(predicting(batch).sum()) for batch in batches)
        if not self.tokens:
            raise StudyError("there is no target token to measure divergence on; name more pairs with --calibration")
        self._reference: list[torch.Tensor] = []
        with torch.inference_mode():
            for batch in batches:
                logits = target_logits(model, batch)
                self._reference.append(self._kept(logits))
        self._inputs = LayerInputs()

    def remember(self, model: Any) -> bool:
        """Keep what enters the model's layers, so that `of` need not run those that don't change; whether that was
        done."""
        self._inputs.take(model, self._batches, target_logits)
        return self._inputs.known

    def of(self, model: Any, first: int = 0, without: Collection[int] = ()) -> float:
        """Mean over target tokens of KL(reference ‖ model), in nats; raises ValueError for logits not finite.

        first: the first layer that is another than when the model was remembered; 0 where the embeddings are. without:
        layers of a remembered model that do not run, none of them before `first`.
        """
        parts = []
        with torch.inference_mode():
            for number, (batch, kept) in enumerate(zip(self._batches, self._reference, strict=True)):
                with self._inputs.starting_at(model, first, number, without):
                    logits = target_logits(model, batch)
                parts += [
                    _divergence(kept[start : start + _ROWS].to(logits.device), logits[start : start + _ROWS])
                    for start in range(0, len(logits), _ROWS)
                ]
        # One look at the device for all: each waits for it. Logits that are not finite leave a sum that is none.
        found: float = sum(torch.stack(parts).tolist())
        if not math.isfinite(found):
            raise ValueError(NOT_FINITE)
        return found / self.tokens

    def _kept(self, logits: torch.Tensor) -> torch.Tensor:
        dtype = torch.float32 if 4 * self.tokens * logits.shape[1] <= FLOAT32_BYTES else torch.float16
        device = logits.device
        size = logits.numel() * dtype.itemsize
        if device.type == "cuda" and size > DEVICE_SHARE * free_memory(device):
            device = torch.device("cpu")
        kept = torch.empty(logits.shape, dtype=dtype, device=device)
        for start in range(0, len(logits), _ROWS):
            kept[start : start + _ROWS] = log_probabilities(logits[start : start + _ROWS])
        return kept


def measuring_batches(tokenizer: Any, context: CompressionContext, tokens: int | None = None) -> list[Batch]:
    """The calibration pairs that statistics leave out, as batches of so many tokens in all (by default as the device
    has them); raises StudyError when there are none."""
    tokens = MEASURING_TOKENS[context.device.type] if tokens is None else tokens
    if not context.calibration:
        raise StudyError("this method needs calibration pairs; name a file of them with --calibration")
    _, measuring = parts(context.calibration, context.seed)
    if not measuring:
        raise StudyError(
            f"{len(context.calibration)} calibration pairs are too few to leave some out for measuring divergence; "
            "name a file of more with --calibration"
        )
    return batches(balance_pairs(measuring, tokenizer, context.prompt, tokens), MEASURING_BATCH_TOKENS)


def predicting(batch: Batch) -> torch.Tensor:
    """The positions whose next token is a target token: bool (sequences, tokens)."""
    return torch.nn.functional.pad(batch.target[:, 1:], (0, 1))


def target_logits(model: Any, batch: Batch) -> torch.Tensor:
    """The model's logits at the predicting positions, in its own type: (target tokens, vocabulary).

    The head sees these positions alone; what the model does to logits after its head (softcapping, scaling) is kept.
    """
    where = model.get_input_embeddings().weight.device
    with _head_on(model, predicting(batch)):
        output = model(**batch.inputs(where))
    logits: torch.Tensor = output.logits[0]
    return logits


def log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Float32 log-probabilities of logits (tokens, vocabulary); raises ValueError where they are not finite."""
    found = _log_softmax(logits)
    if not torch.isfinite(found).all():
        raise ValueError(NOT_FINITE)
    return found


def _log_softmax(logits: torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(logits.float(), dim=-1).clamp(min=LEAST_LOG_PROBABILITY)


def _divergence(kept: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Σ over tokens of KL, float64; the kept log-probabilities are normalised again after their rounding."""
    reference = kept.float()
    if kept.dtype != torch.float32:
        reference = torch.log_softmax(reference, dim=-1)
    each = torch.nn.functional.kl_div(_log_softmax(logits), reference, reduction="none", log_target=True)
    return each.sum(dtype=torch.float64)


@contextmanager
def _head_on(model: Any, positions: torch.Tensor) -> Iterator[None]:
    """Inside, the head is applied to these positions only, and answers (1, positions, vocabulary)."""

    def choose(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        hidden = inputs[0]
        return (hidden[positions.to(hidden.device)][None],)

    handle = model.get_output_embeddings().register_forward_pre_hook(choose)
    try:
        yield
    finally:
        handle.remove()
