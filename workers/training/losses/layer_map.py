"""Which teacher layer each student layer is compared with, and how far apart their hidden states are.

After TinyBERT (Jiao et al. 2020, https://arxiv.org/abs/1909.10351 §3.2): hidden states after a layer, a learned linear
map where the widths differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from search_spaces.errors import StudyError

# Keeps the division finite for a teacher's state of zeros.
_LEAST_SQUARE = 1e-6


def spread(student_layers: int, teacher_layers: int) -> dict[int, int]:
    """Student layer -> teacher layer, both from 0, spread evenly so that the last goes to the last."""
    return {layer: max(round((layer + 1) * teacher_layers / student_layers) - 1, 0) for layer in range(student_layers)}


def refuse_unknown_layers(layer_map: Mapping[int, int], student_layers: int, teacher_layers: int) -> None:
    """Raise StudyError for a map that names a layer which one of the models does not have."""
    for student, teacher in layer_map.items():
        if not (0 <= student < student_layers and 0 <= teacher < teacher_layers):
            raise StudyError(
                f"the layer map has {student} -> {teacher}, and the student has {student_layers} layers, the teacher "
                f"{teacher_layers} (counted from 0)"
            )


@contextmanager
def kept_outputs(layers: Any, wanted: Iterable[int]) -> Iterator[dict[int, torch.Tensor]]:
    """What these decoder layers put out while inside: layer -> (sequences, tokens, width), gradients included.

    layers: a module list. A layer that runs again in the backward (gradient checkpointing) is no longer listened to.
    """
    found: dict[int, torch.Tensor] = {}

    def listener(layer: int) -> Any:
        def hook(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            found[layer] = output[0] if isinstance(output, tuple) else output

        return hook

    handles = [layers[layer].register_forward_hook(listener(layer)) for layer in sorted(set(wanted))]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def token_shares(mask: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """How much each token's hidden state counts: float32 (sequences, tokens), 0 on padding.

    A sequence's real tokens share its number of predicted tokens, so that the sum over a batch is the number of its
    predicted tokens, however the sequences are spread over batches.
    """
    real = mask.sum(-1, keepdim=True).clamp(min=1)
    predicted = target[:, 1:].sum(-1, keepdim=True)
    return mask.float() * (predicted / real)


def mismatch(student: torch.Tensor, teacher: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Σ over tokens of share · |student − teacher|² / |teacher|², float32 scalar.

    student, teacher: hidden states (sequences, tokens, width). Divided by the teacher's square, so that tokens and
    layers of large states weigh no more than the others.
    """
    wanted = teacher.float()
    square = wanted.square().sum(-1).clamp(min=_LEAST_SQUARE)
    apart = (student.float() - wanted).square().sum(-1) / square
    return torch.where(shares > 0, apart * shares, 0.0).sum()
