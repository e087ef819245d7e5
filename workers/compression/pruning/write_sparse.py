"""What all sparsifiers share: choosing which weights stay, walking a checkpoint's weights, writing the sparse folder.

Every output row keeps the same number of weights, so that bytes are known beforehand; scores say which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from search_spaces.errors import UnsupportedStep
from search_spaces.methods.pruners import Sparsifier
from search_spaces.sizes.tensor_table import Tensor, is_target
from workers.compression.layer_progress import tell_layers
from workers.plan.compression_context import CompressionContext, Report
from workers.stored_forms.checkpoint import OWN, copy_small_files, dense_tensors, write_tensors
from workers.stored_forms.packing import pack_sparse

# (tensor name, weight as it is stored) -> the weight that what stays is read from, and the bool mask of what stays.
Sparsify = Callable[[str, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
Scores = Callable[[str, torch.Tensor], torch.Tensor]


def write_sparse(parent: Path, out: Path, sparsify: Sparsify, context: CompressionContext) -> Report:
    """Write the parent with every linear weight of the decoder layers as a mask and what stays of it.

    Only this project's loader reads such a folder; config.json is the parent's. Raises ValueError for a weight that is
    not finite, before or after.
    """
    changed = 0

    def stored() -> Iterator[tuple[str, torch.Tensor]]:
        nonlocal changed
        tell = tell_layers("pruning, layer", parent)
        for name, tensor, _ in dense_tensors(parent, context.device):
            if not is_target(name, Tensor("F32", tuple(tensor.shape))):
                yield name, tensor
                continue
            refuse_not_finite(name, tensor)
            tell(name)
            weight, mask = sparsify(name, tensor)
            weight = weight.to(tensor.dtype)
            refuse_not_finite(name, weight)
            changed += tensor.numel()
            yield from pack_sparse(name.removesuffix(".weight"), weight, mask)

    write_tensors(out, stored(), OWN)
    copy_small_files(parent, out)
    return Report(targeted=changed, changed=changed)


def by_score(step: Sparsifier, scores: Scores) -> Sparsify:
    """The sparsifier that keeps each row's weights of highest score as they are; scores: (rows, columns)."""
    return lambda name, weight: (weight, kept_mask(scores(name, weight), step))


def kept_mask(scores: torch.Tensor, step: Sparsifier) -> torch.Tensor:
    """Which weights stay by the step's pattern: bool (rows, columns), `step.kept(columns)` a row."""
    return two_of_four(scores) if step.pattern == "2:4" else highest(scores, step.kept(scores.shape[1]))


def highest(scores: torch.Tensor, kept: int) -> torch.Tensor:
    """Each row's `kept` highest scores as a bool mask (rows, columns); of equals, the earlier columns."""
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :kept]
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, order, True)


def two_of_four(scores: torch.Tensor) -> torch.Tensor:
    """The 2 highest of every 4 consecutive scores of a row, as a bool mask; raises CandidateError for other columns."""
    rows, columns = scores.shape
    refuse_uneven_fours(columns)
    return highest(scores.reshape(-1, 4), 2).reshape(rows, columns)


def refuse_uneven_fours(columns: int) -> None:
    """Raise UnsupportedStep for a weight whose columns don't come in fours."""
    if columns % 4:
        said = f"the pattern 2:4 needs columns in fours; a weight has {columns}. Use unstructured"
        raise UnsupportedStep(said, ("pattern",))


def refuse_not_finite(name: str, weight: torch.Tensor) -> None:
    """Raise ValueError for a weight that holds infinities or NaN."""
    if not bool(torch.isfinite(weight).all()):
        raise ValueError(f"{name} holds values that are not finite; the model is damaged or overflows its number type")
