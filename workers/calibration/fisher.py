"""How much a model's loss reacts to each linear layer's outputs: the output half of a Kronecker-factored Fisher matrix.

For a linear layer y = W x, K-FAC takes the Fisher matrix of W as E[x xᵀ] ⊗ E[g gᵀ] with g the loss's gradient at y
(Martens and Grosse 2015, https://arxiv.org/abs/1503.05671 §3). Of the second factor the diagonal is kept, so a change
Δ of the weight raises the loss by about ½ Σ_r g²_r Δ_r H Δ_rᵀ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from search_spaces.errors import StudyError
from workers.calibration.capture import add_products, linear_layers
from workers.calibration.divergence import predicting, target_logits
from workers.calibration.sequences import Batch
from workers.runtime.tensor_cores import tensor_cores


@dataclass(slots=True)
class OutputFisher:
    """Sums over positions, divided by the number of tokens; g is the gradient of the summed negative log-likelihood."""

    tokens: int
    """The number of tokens."""
    outputs: dict[str, torch.Tensor] = field(default_factory=dict)
    """Weight name from its layer's number on, such as `3.mlp.up_proj.weight` -> g², float32 (rows,)."""
    frequency: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    """How often each token is looked up, float32 (vocabulary,)."""
    lookup: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    """Sum of g² at the embeddings' output for each coordinate of a row, float32 (width,)."""
    head: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    """Sum of g² at the logits, float32 (vocabulary,)."""
    head_hessian: torch.Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    """Sum of x xᵀ over the inputs x of the head, float32 (width, width)."""


def output_fisher(model: Any, batches: Sequence[Batch]) -> OutputFisher:
    """One backward pass of the target tokens' negative log-likelihood over the batches.

    The model's parameters are left without gradients, so memory is that of one batch's activations. Raises ValueError
    for a loss that is not finite, StudyError when the batches hold no target token.
    """
    if not any(bool(predicting(batch).any()) for batch in batches):
        raise StudyError("there is no target token to take gradients of; name more pairs with --calibration")
    model.requires_grad_(False)
    found = OutputFisher(sum(batch.tokens for batch in batches))
    with _noting(model, found), torch.enable_grad():
        for batch in batches:
            logits = target_logits(model, batch).float()
            labels = batch.ids[:, 1:][batch.target[:, 1:]].to(logits.device)
            loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
            if not torch.isfinite(loss):
                raise ValueError("the loss on the calibration set is not finite; the model is damaged or overflows")
            loss.backward()
            _count(found, batch)
    # The sums of layers on other devices come to where weights are compared with them.
    found.outputs = {name: sums.to(found.head.device) for name, sums in found.outputs.items()}
    for sums in (*found.outputs.values(), found.frequency, found.lookup, found.head, found.head_hessian):
        sums /= found.tokens
    return found


def fisher_error(change: torch.Tensor, hessian: torch.Tensor, gradient: torch.Tensor) -> float:
    """Σ_r g²_r Δ_r H Δ_rᵀ. change: Δ, float32 (rows, columns). hessian: (columns, columns). gradient: g², (rows,)."""
    with tensor_cores():
        return float(((change @ hessian * change).sum(dim=1) * gradient).sum(dtype=torch.float64))


def embeddings_error(change: torch.Tensor, fisher: OutputFisher, role: str) -> float:
    """The same for the vocabulary's matrix, change: (vocabulary, width); role: "lookup", "head", or "tied" for both.

    A lookup is a linear layer whose inputs are one-hot, so its H is the diagonal of token frequencies.
    """
    error = 0.0
    if role in ("lookup", "tied"):
        error += float((change.square() @ fisher.lookup * fisher.frequency).sum(dtype=torch.float64))
    if role in ("head", "tied"):
        error += fisher_error(change, fisher.head_hessian, fisher.head)
    return error


@contextmanager
def _noting(model: Any, found: OutputFisher) -> Iterator[None]:
    """Inside, every backward pass adds to the sums."""
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    found.frequency = torch.zeros(embeddings.weight.shape[0], device=embeddings.weight.device)
    found.lookup = torch.zeros(embeddings.weight.shape[1], device=embeddings.weight.device)
    found.head = torch.zeros(head.weight.shape[0], device=head.weight.device)
    found.head_hessian = torch.zeros(head.weight.shape[1], head.weight.shape[1], device=head.weight.device)

    def looked_up(module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        # Some models scale rows as they look them up; a change of a row is scaled with it.
        scale = output.float().norm() / module.weight[inputs[0]].float().norm()
        output.requires_grad_(True)
        output.register_hook(lambda gradient: _add_squares(found.lookup, gradient.float() * scale))
        return output

    def headed(module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        add_products(found.head_hessian, inputs[0].detach().reshape(-1, inputs[0].shape[-1]))
        output.register_hook(lambda gradient: _add_squares(found.head, gradient))

    def ran(sums: torch.Tensor) -> Any:
        def hook(module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            output.register_hook(lambda gradient: _add_squares(sums, gradient))

        return hook

    handles = [embeddings.register_forward_hook(looked_up), head.register_forward_hook(headed)]
    for index, layer in enumerate(model.get_decoder().layers):
        for name, module in linear_layers(layer).items():
            sums = torch.zeros(module.weight.shape[0], device=module.weight.device)
            found.outputs[f"{index}.{name}.weight"] = sums
            handles.append(module.register_forward_hook(ran(sums)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _add_squares(sums: torch.Tensor, gradient: torch.Tensor) -> None:
    sums += gradient.detach().float().square().reshape(-1, gradient.shape[-1]).sum(dim=0)


def _count(found: OutputFisher, batch: Batch) -> None:
    ids = batch.ids[batch.mask].to(found.frequency.device)
    found.frequency += torch.bincount(ids, minlength=len(found.frequency)).float()
